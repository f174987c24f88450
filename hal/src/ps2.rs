//! A PC's keyboard controller as its driver sees it (Intel 8042; IBM PS/2 Hardware Interface Technical Reference, keyboard and
//! auxiliary device controller).

/// The controller's two ports. No call waits; all are safe from any context.
pub trait KeyboardController: Sync {
    /// The keyboard's interrupt, for [`InterruptController`](crate::traits::InterruptController); edge-triggered.
    fn line(&self) -> u32;
    /// Reads the status: all ones where there is no controller.
    fn status(&self) -> u8;
    /// Takes a byte of output, whoever has sent it.
    fn read(&self) -> u8;
    /// Sends a byte to the keyboard, or the operand of a command.
    fn write(&self, byte: u8);
    /// Sends a command to the controller itself.
    fn command(&self, byte: u8);
}
