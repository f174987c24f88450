//! The high precision event timer ("IA-PC HPET Specification" 1.0a, 3.2.4).

use super::{
    Description, Reason,
    bytes::{Address, Bytes},
};

pub(super) fn read(table: Bytes<'_>, found: &mut Description) -> Result<(), Reason> {
    let registers = table.address(40)?;
    if registers.space != Address::MEMORY || registers.address == 0 {
        return Err(Reason::Value);
    }
    found.hpet = Some(registers.address);
    Ok(())
}
