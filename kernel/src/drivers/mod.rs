//! Device drivers: each a task that owns its device and loops over its interrupt.

pub mod pci;
pub mod screen;
pub mod uart;
