//! USB: keyboards at the ports of an xHCI controller.
//!
//! - [`descriptor`]: what devices say of themselves.
//! - [`xhci`]: the controller, and what is at its ports.
//!
//! Hubs, and what is behind them, are not served, nor is any device but keyboards that know the boot protocol.

pub mod descriptor;
pub mod xhci;
