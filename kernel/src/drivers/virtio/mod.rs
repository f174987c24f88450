//! Virtio (version 1.2 of the standard), what all its devices have in common: the transport over PCI and the split queue.
//!
//! A driver opens the function ([`pci::open`]), which negotiates features; asks for lines ([`crate::drivers::pci::Device::messages`]),
//! makes its queues ([`Transport::queue`], each with the number of its line), starts the device, and then owns the queues: it adds
//! buffers, publishes them, waits for the line and takes what the device has used.
//!
//! Own code, because the published crate's queue is made for devices that are waited for in loops, reaches memory by raw
//! pointers through an unsafe trait, and never tells the device which message a queue has; what it would have spared is
//! smaller than what would stand around it.
//!
//! Memory that the device may write stays allocated for as long as it may: the queues' is kept by the transport, which resets
//! the device before it lets go, and a driver keeps its buffers in the same way: it drops the transport first.

pub mod pci;
pub mod queue;
pub mod transport;

#[cfg(test)]
pub(super) mod simulated;
#[cfg(test)]
mod tests;

pub use queue::{Buffer, Queue, Table, Used};
pub use transport::Transport;

/// The feature that chains may stand in a [`Table`] (6).
pub const INDIRECT: u64 = 1 << 28;

/// PCI's vendor of all virtio devices (4.1.2).
pub const VENDOR: u16 = 0x1af4;
/// PCI's number of a device of this version, to be added to the device's type.
pub const DEVICE: u16 = 0x1040;
