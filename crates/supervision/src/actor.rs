//! What an actor of our own is written with, under names that are ours: components above this
//! floor name no actor library, so that the kind of child they are can change.

pub use ractor::{Actor, ActorProcessingErr as ActorError, ActorRef, RpcReplyPort as RpcReply};
