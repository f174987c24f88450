//! A UART as its driver task sees it.

/// Register access to one UART. No call waits; all are safe from any context, and concurrent calls on the two
/// directions do not disturb each other.
pub trait SerialPort: Sync {
    /// The interrupt line, for [`InterruptController`](crate::traits::InterruptController); level-triggered. `None` where firmware
    /// does not say which it is.
    fn line(&self) -> Option<u32>;
    /// Takes one received byte, if there is one. A byte with a framing or parity error is dropped.
    fn read_byte(&self) -> Option<u8>;
    /// Queues one byte for sending; false if the FIFO is full.
    fn write_byte(&self, byte: u8) -> bool;
    /// Lets the receiver raise the interrupt while data is there.
    fn set_receive_interrupt(&self, on: bool);
    /// Lets the transmitter raise the interrupt while there is room.
    fn set_transmit_interrupt(&self, on: bool);
}
