//! The tables' bodies and the structures in them, by the numbers that tests care about.

use std::vec::Vec;

use super::fields;

/// A generic address structure: space, bits, access size, address.
pub fn gas(space: u8, bits: u8, access: u8, address: u64) -> Vec<u8> {
    fields([
        (space.into(), 1),
        (bits.into(), 1),
        (0, 1),
        (access.into(), 1),
        (address, 8),
    ])
}

pub fn madt(local_apic: u32, structures: &[Vec<u8>]) -> Vec<u8> {
    let mut body = fields([(local_apic.into(), 4), (1, 4)]);
    body.extend(structures.concat());
    body
}

pub fn local_apic(id: u8, flags: u32) -> Vec<u8> {
    fields([(0, 1), (8, 1), (id.into(), 1), (id.into(), 1), (flags.into(), 4)])
}

pub fn x2apic(id: u32, flags: u32) -> Vec<u8> {
    fields([
        (9, 1),
        (16, 1),
        (0, 2),
        (id.into(), 4),
        (flags.into(), 4),
        (id.into(), 4),
    ])
}

pub fn io_apic(address: u32, first_line: u32) -> Vec<u8> {
    fields([(1, 1), (12, 1), (0, 2), (address.into(), 4), (first_line.into(), 4)])
}

pub fn irq_override(irq: u8, line: u32, flags: u16) -> Vec<u8> {
    fields([
        (2, 1),
        (10, 1),
        (0, 1),
        (irq.into(), 1),
        (line.into(), 4),
        (flags.into(), 2),
    ])
}

/// A GICC structure of so many bytes.
pub fn gicc(mpidr: u64, flags: u32, interface: u64, redistributor: u64, length: usize) -> Vec<u8> {
    let mut bytes = fields([
        (0xb, 1),
        (length as u64, 1),
        (0, 2),
        (mpidr & 0xff, 4),
        (mpidr & 0xff, 4),
        (flags.into(), 4),
        (0, 4),
        (23, 4),
        (0, 8),
        (interface, 8),
        (0, 16),
        (25, 4),
        (redistributor, 8),
        (mpidr, 8),
    ]);
    bytes.resize(length, 0);
    bytes
}

pub fn gicd(address: u64, version: u8) -> Vec<u8> {
    fields([
        (0xc, 1),
        (24, 1),
        (0, 6),
        (address, 8),
        (0, 4),
        (version.into(), 1),
        (0, 3),
    ])
}

pub fn msi_frame(id: u32, address: u64, flags: u32, lines: u16, first: u16) -> Vec<u8> {
    fields([
        (0xd, 1),
        (24, 1),
        (0, 2),
        (id.into(), 4),
        (address, 8),
        (flags.into(), 4),
        (lines.into(), 2),
        (first.into(), 2),
    ])
}

pub fn gicr(address: u64, length: u32) -> Vec<u8> {
    fields([(0xe, 1), (16, 1), (0, 2), (address, 8), (length.into(), 4)])
}

pub fn its(id: u32, address: u64) -> Vec<u8> {
    fields([(0xf, 1), (20, 1), (0, 2), (id.into(), 4), (address, 8), (0, 4)])
}

/// A GTDT with QEMU's interrupts but for the virtual timer's.
pub fn gtdt(virtual_line: u32, flags: u32) -> Vec<u8> {
    fields([
        (u64::MAX, 8),
        (0, 4),
        (29, 4),
        (0, 4),
        (30, 4),
        (0, 4),
        (virtual_line.into(), 4),
        (flags.into(), 4),
        (26, 4),
        (0, 4),
        (u64::MAX, 8),
        (0, 8),
    ])
}

/// An SPCR of 80 bytes.
pub fn spcr(kind: u8, address: &[u8], interrupt_type: u8, irq: u8, line: u32) -> Vec<u8> {
    let mut body = fields([(kind.into(), 4)]);
    body.extend(address);
    body.extend([interrupt_type, irq]);
    body.extend(line.to_le_bytes());
    body.resize(44, 0);
    body
}

/// A DBG2 of the given devices.
pub fn dbg2(devices: &[Vec<u8>]) -> Vec<u8> {
    let mut body = fields([(44, 4), (devices.len() as u64, 4)]);
    body.extend(devices.concat());
    body
}

pub fn debug_device(port_type: u16, subtype: u16, address: &[u8], length: u32, name: &[u8]) -> Vec<u8> {
    let whole = 22 + 12 + 4 + name.len() as u64;
    let mut bytes = fields([
        (0, 1),
        (whole, 2),
        (1, 1),
        (name.len() as u64, 2),
        (38, 2),
        (0, 4),
        (port_type.into(), 2),
        (subtype.into(), 2),
        (0, 2),
        (22, 2),
        (34, 2),
    ]);
    bytes.extend(address);
    bytes.extend(length.to_le_bytes());
    bytes.extend(name);
    bytes
}

/// One allocation of an MCFG.
pub fn allocation(base: u64, segment: u16, first: u8, last: u8) -> Vec<u8> {
    fields([
        (base, 8),
        (segment.into(), 2),
        (first.into(), 1),
        (last.into(), 1),
        (0, 4),
    ])
}

pub fn mcfg(allocations: &[Vec<u8>]) -> Vec<u8> {
    let mut body = fields([(0, 8)]);
    body.extend(allocations.concat());
    body
}

pub fn hpet(address: &[u8]) -> Vec<u8> {
    let mut body = fields([(0x8086_a201, 4)]);
    body.extend(address);
    body.extend([0; 4]);
    body
}

/// A FADT of so many bytes, header included, with the given fields at their offsets in the table.
pub fn fadt(length: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut body = std::vec![0; length - 36];
    for &(offset, bytes) in fields {
        body[offset - 36..][..bytes.len()].copy_from_slice(bytes);
    }
    body
}

/// `Scope (\) { Name (_S5, Package () { a, b, 0, 0 }) }` among other things.
pub fn dsdt_with_soft_off(a: u8, b: u8) -> Vec<u8> {
    let mut code = b"\x10\x05\\_SB_\x08_S4_\x12\x06\x04\x0a\x02\x0a\x02\x00\x00\x08_S5_\x12\x08\x04".to_vec();
    code.extend([0x0a, a, 0x0a, b, 0, 0]);
    code.extend(b"\x08_S0_\x12\x04\x02\x00\x00");
    code
}
