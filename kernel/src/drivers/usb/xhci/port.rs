//! A port's register (xHCI 1.2, 5.4.8).

/// Something is connected; the port works; it is being reset; it has power.
const CONNECTED: u32 = 1 << 0;
const ENABLED: u32 = 1 << 1;
const RESET: u32 = 1 << 4;
const POWER: u32 = 1 << 9;
/// What has changed: connection, working, a reset's end, and others. Written, it is forgotten.
const CONNECTION_CHANGED: u32 = 1 << 17;
const ENABLED_CHANGED: u32 = 1 << 18;
const CHANGES: u32 = 0x7f << 17;
/// A reset that also trains the link anew, of ports of USB 3.
const WARM_RESET: u32 = 1 << 31;
/// What keeps its value when the register is written: power, lights, and what wakes.
const KEPT: u32 = POWER | 3 << 14 | 7 << 25;

/// What a port's register says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub u32);

impl Port {
    /// Whether something is connected.
    pub const fn is_connected(self) -> bool {
        self.0 & CONNECTED != 0
    }

    /// Whether it can be spoken with.
    pub const fn is_enabled(self) -> bool {
        self.0 & ENABLED != 0 && self.0 & RESET == 0
    }

    /// Whether the port is being reset.
    pub const fn is_resetting(self) -> bool {
        self.0 & RESET != 0
    }

    /// Whether it has power.
    pub const fn has_power(self) -> bool {
        self.0 & POWER != 0
    }

    /// The number of what is connected's speed.
    pub const fn speed(self) -> u32 {
        self.0 >> 10 & 0xf
    }

    /// Whether what was connected has gone, or been replaced, or has made the controller shut the port.
    pub const fn has_left(self) -> bool {
        self.0 & (CONNECTION_CHANGED | ENABLED_CHANGED) != 0
    }

    /// What to write to forget what has changed, and to change nothing.
    pub const fn acknowledged(self) -> u32 {
        self.0 & (KEPT | CHANGES)
    }

    /// What to write to reset the port.
    pub const fn to_reset(self) -> u32 {
        self.0 & KEPT | RESET
    }

    /// What to write to train the link anew.
    pub const fn to_reset_warm(self) -> u32 {
        self.0 & KEPT | WARM_RESET
    }

    /// What to write to switch the port on.
    pub const fn to_power(self) -> u32 {
        self.0 & KEPT | POWER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_changes_nothing_but_what_is_meant() {
        // The bits that act when ones are written: working (off), the link's state with its strobe, the changes, removable.
        let all = Port(u32::MAX);
        assert_eq!(all.acknowledged(), 0x0e00_c200 | 0x00fe_0000);
        assert_eq!(all.to_reset(), 0x0e00_c210);
        assert_eq!(all.to_reset_warm(), 0x8e00_c200);
        assert_eq!(Port(0).to_power(), 0x200);
        assert!(!all.is_enabled() && Port(3).is_enabled());
        assert_eq!(Port(0x0002_0ee1).speed(), 3);
        assert!(Port(1 << 17).has_left() && Port(1 << 18).has_left() && !Port(1 << 21).has_left());
    }
}
