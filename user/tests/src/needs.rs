//! What tests need that a Linux may be without: newer than it, or left out where it was configured.

/// Something that a kernel has or has not.
#[derive(Debug)]
pub struct Need {
    /// It, in words that follow `needs`.
    pub what: &'static str,
    /// Whether this kernel has it.
    pub is_there: fn() -> bool,
}
