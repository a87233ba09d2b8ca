// The server of many examples in the documentation of this crate.
use perennial_supervision::{GenServer, Init, Next, Reply, ServerCx, actor::ActorError};

/// What the counter is asked.
enum Ask {
    Add(u32),
    Sum(Reply<u32>),
    /// Never answered.
    Never(Reply<u32>),
    /// A bug.
    Fail,
}

struct Counter(u32);

impl GenServer for Counter {
    type Arguments = ();
    type Message = Ask;

    async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self(0)))
    }

    async fn handle(&mut self, ask: Ask, _: &mut ServerCx<Self>) -> Result<Next<Ask>, ActorError> {
        match ask {
            Ask::Add(number) => self.0 += number,
            Ask::Sum(reply) => reply.send(self.0),
            Ask::Never(_) => (),
            Ask::Fail => panic!("a bug"),
        }
        Ok(Next::Continue)
    }
}
