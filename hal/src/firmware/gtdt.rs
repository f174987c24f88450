//! The CPUs' timers: the Generic Timer Description Table (ACPI 6.5, 5.2.25).

use super::{Description, GenericTimer, Reason, bytes::Bytes};

/// The virtual timer; `None` where the table gives it no interrupt.
pub(super) fn read(table: Bytes<'_>, found: &mut Description) -> Result<(), Reason> {
    let (line, flags) = (table.u32(64)?, table.u32(68)?);
    found.timer = (line != 0).then_some(GenericTimer {
        virtual_line: line,
        edge: flags & 1 << 0 != 0,
        active_low: flags & 1 << 1 != 0,
        always_on: flags & 1 << 2 != 0,
    });
    Ok(())
}
