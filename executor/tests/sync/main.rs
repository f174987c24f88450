//! The primitives of `executor::sync`, with futures that are polled and dropped by hand: cancelling at every point loses
//! nothing (I7).

#![cfg(not(loom))]

mod cancelling;
mod channel;
mod exploring;
mod machine;
mod polling;
mod queues;
mod shared;
