// What examples of light servers are about: carts, each a light server. Included by them.
struct Cart(Vec<u32>);

enum Message {
    Put(u32),
    Items(Reply<Vec<u32>>),
    Lose,
}

impl LightServer for Cart {
    type Arguments = Vec<u32>;
    type Message = Message;

    async fn init(first: &Vec<u32>, _: &LightCx<Self>) -> Result<Self, actor::ActorError> {
        Ok(Self(first.clone()))
    }

    async fn handle(
        &mut self,
        message: Message,
        _: &LightCx<Self>,
    ) -> Result<Flow, actor::ActorError> {
        match message {
            Message::Put(item) => self.0.push(item),
            Message::Items(reply) => reply.send(self.0.clone()),
            Message::Lose => return Err("lost".into()),
        }
        Ok(Flow::Continue)
    }
}
