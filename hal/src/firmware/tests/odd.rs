//! The other tables: of every age, and with one thing odd or wrong each.

use std::vec::Vec;

use super::{List, Machine, fault, fields, machines::range, structures::*};
use crate::firmware::{Conduit, Reason, Register, Registers, SerialKind, SoftOff};

fn with_fadt(body: Vec<u8>, code: &[u8]) -> Machine {
    Machine::new().with_fadt(body, code).finish(List::Both)
}

#[test]
fn a_timer_without_an_interrupt_is_none() {
    let with = |body: &[u8]| Machine::new().with(b"GTDT", 2, body).finish(List::Xsdt);
    assert_eq!(with(&gtdt(0, 2)).faults(), []);
    assert_eq!(with(&gtdt(0, 2)).read().timer, None);
    let timer = with(&gtdt(28, 6)).read().timer.expect("a timer");
    assert!(timer.virtual_line == 28 && !timer.edge && timer.active_low && timer.always_on);
    let short = with(&gtdt(27, 0)[..35]);
    assert_eq!(
        (short.read().timer, short.faults()),
        (None, std::vec![fault(b"GTDT", Reason::Short)])
    );
}

#[test]
fn serial_ports_of_every_description() {
    let serial = |tables: &[(&[u8; 4], Vec<u8>)]| {
        let machine = tables
            .iter()
            .fold(Machine::new(), |machine, (name, body)| machine.with(name, 2, body));
        let found = machine.finish(List::Xsdt).read();
        (
            found.serial.map(|port| (port.kind, port.registers, port.line)),
            found.faults,
        )
    };
    let memory = |start, length, width| Registers::Memory {
        range: range(start, length),
        width,
    };
    let spcr_of = |kind, address: &[u8]| serial(&[(b"SPCR", spcr(kind, address, 8, 0, 33))]).0.expect("a port");
    // Widths that are absent, of another kind than the port, or no power of two.
    for (bits, access) in [(0, 0), (8, 1), (7, 9), (32, 0), (32, 3), (64, 4)] {
        let port = spcr_of(3, &gas(0, bits, access, 0x900_0000));
        let expected = (SerialKind::Pl011, memory(0x900_0000, 0x1000, 4), Some(33));
        assert_eq!(port, expected, "{bits} {access}");
    }
    assert_eq!(spcr_of(3, &gas(0, 16, 0, 0x900_0000)).1, memory(0x900_0000, 0x1000, 2));
    assert_eq!(
        spcr_of(0x0d, &gas(0, 8, 1, 0x900_0000)),
        (SerialKind::Sbsa32, memory(0x900_0000, 0x1000, 4), Some(33))
    );
    assert_eq!(
        spcr_of(0x12, &gas(0, 32, 3, 0x900_0000)),
        (SerialKind::Ns16550, memory(0x900_0000, 32, 4), Some(33))
    );
    assert_eq!(spcr_of(0, &gas(0, 77, 77, 0x900_0000)).1, memory(0x900_0000, 8, 1));
    assert_eq!(spcr_of(0x10, &gas(0, 32, 0, 0x900_0000)).0, SerialKind::Other(0x10));
    // A PC's, by the 8259's number; and one without an interrupt.
    let ports = gas(1, 8, 0, 0x3f8);
    let (port, _) = serial(&[(b"SPCR", spcr(0, &ports, 1, 4, 99))]);
    assert_eq!(
        port,
        Some((SerialKind::Ns16550, Registers::Ports { first: 0x3f8 }, Some(4)))
    );
    let (port, _) = serial(&[(b"SPCR", spcr(0, &ports, 0, 4, 99))]);
    assert_eq!(port.and_then(|port| port.2), None);
    // What SPCR does not say, or says wrongly, DBG2 may.
    let debug = dbg2(&[
        debug_device(0x8003, 0, &gas(0, 32, 3, 0x100_0000), 0x1000, b".\0"),
        debug_device(0x8000, 0x10, &gas(0, 32, 3, 0x200_0000), 0x1000, b".\0"),
        debug_device(0x8000, 3, &gas(0, 32, 3, 0x300_0000), 0x2000, b".\0"),
    ]);
    let expected = Some((SerialKind::Pl011, memory(0x300_0000, 0x2000, 4), None));
    for (address, faults) in [
        (gas(0, 32, 3, 0), &[][..]),
        (gas(0, 32, 3, u64::MAX), &[fault(b"SPCR", Reason::Value)]),
        (gas(1, 8, 1, 0x1_0000), &[fault(b"SPCR", Reason::Value)]),
        (gas(2, 8, 1, 0x900_0000), &[fault(b"SPCR", Reason::Value)]),
    ] {
        let (port, noted) = serial(&[(b"SPCR", spcr(3, &address, 8, 0, 33)), (b"DBG2", debug.clone())]);
        assert_eq!((port, &noted[..]), (expected, faults), "{address:?}");
    }
    // One of an unknown kind is better than none, and a structure without an end takes nothing back.
    let unknown = debug_device(0x8000, 0x10, &gas(0, 32, 3, 0x200_0000), u32::MAX, b".\0");
    for length in [0_u16, 21, u16::MAX] {
        let mut body = dbg2(&[unknown.clone(), debug_device(0x8000, 3, &ports, 8, b".\0")]);
        let at = 8 + unknown.len() + 1;
        body[at..at + 2].copy_from_slice(&length.to_le_bytes());
        let (port, faults) = serial(&[(b"DBG2", body)]);
        let expected = (SerialKind::Other(0x10), memory(0x200_0000, 0x1000, 4), None);
        assert_eq!((port, &faults[..]), (Some(expected), &[][..]), "{length}");
    }
    let (port, faults) = serial(&[(b"DBG2", fields([(44, 4), (u32::MAX.into(), 4)]))]);
    assert_eq!((port, &faults[..]), (None, &[fault(b"DBG2", Reason::Entry)][..]));
}

#[test]
fn fadts_of_every_age_are_read() {
    let port = |port, width| Register::Port { port, width };
    let flags = 1_u32 << 10;
    let psci = 1_u16.to_le_bytes();
    let (old, older) = (gas(1, 16, 2, 0x1804), 0x604_u32.to_le_bytes());
    let body = |length: usize| {
        let mut whole = fadt(
            276,
            &[
                (64, &older),
                (76, &0x608_u32.to_le_bytes()),
                (108, &[0x32]),
                (112, &flags.to_le_bytes()),
                (116, &gas(1, 8, 1, 0xcf9)),
                (128, &[6]),
                (129, &psci),
                (172, &old),
                (208, &gas(0, 32, 3, 0x1000_0008)),
            ],
        );
        whole.truncate(length - 36);
        whole
    };
    let code = dsdt_with_soft_off(5, 4);
    for length in [116, 128, 129, 131, 132, 148, 183, 184, 220, 244, 276] {
        let machine = with_fadt(body(length), &code);
        let found = machine.read();
        assert_eq!(machine.faults(), [], "{length}");
        assert_eq!(found.century_register, 0x32);
        assert_eq!(found.has_keyboard_controller, length < 244, "{length}");
        assert_eq!(found.reset, (length >= 129).then_some((port(0xcf9, 1), 6)), "{length}");
        assert_eq!(found.psci, (length >= 131).then_some(Conduit::Smc), "{length}");
        let a = if length >= 184 { port(0x1804, 2) } else { port(0x604, 2) };
        assert_eq!(
            found.soft_off,
            Some(SoftOff::PowerManagement { a: (a, 5), b: None }),
            "{length}"
        );
        let in_memory = Register::Memory {
            address: 0x1000_0008,
            width: 4,
        };
        let timer = if length >= 220 { in_memory } else { port(0x608, 4) };
        assert_eq!(found.pm_timer, Some(timer), "{length}");
    }
    let machine = with_fadt(body(115), &code);
    assert_eq!(machine.faults(), [fault(b"FACP", Reason::Short)]);
}

#[test]
fn a_hardware_reduced_machine_sleeps_by_its_own_register() {
    let flags = 1_u32 << 20;
    let control = gas(0, 8, 1, 0x904_0000);
    let body = fadt(276, &[(64, &[4, 6]), (112, &flags.to_le_bytes()), (244, &control)]);
    let soft_off = SoftOff::SleepControl {
        control: Register::Memory {
            address: 0x904_0000,
            width: 1,
        },
        sleep_type: 5,
    };
    assert_eq!(
        with_fadt(body, &dsdt_with_soft_off(5, 5)).read().soft_off,
        Some(soft_off)
    );
}

#[test]
fn the_dsdt_is_found_by_either_field() {
    let types = |machine: &Machine| match machine.read().soft_off {
        Some(SoftOff::PowerManagement { a: (_, a), .. }) => a,
        other => panic!("{other:?}"),
    };
    let machine = || with_fadt(fadt(276, &[(64, &[4, 6])]), &dsdt_with_soft_off(5, 5));
    assert_eq!(types(&machine()), 5);
    for (offset, length) in [(40, 4), (140, 8)] {
        let machine = machine().patch(b"FACP", offset, &[0; 8][..length]);
        assert_eq!((types(&machine), machine.faults()), (5, Vec::new()));
    }
    // `X_DSDT` leads to the FADT itself, or to nothing.
    let own = machine().address(b"FACP");
    for (address, reason) in [(own, Reason::Signature), (u64::MAX, Reason::Unreadable)] {
        let machine = machine().patch(b"FACP", 140, &address.to_le_bytes());
        assert_eq!(
            (types(&machine), machine.faults()),
            (5, std::vec![fault(b"DSDT", reason)])
        );
    }
    let machine = machine().patch(b"FACP", 140, &[0; 8]).patch(b"FACP", 40, &[0; 4]);
    assert_eq!(
        (types(&machine), machine.faults()),
        (0, std::vec![fault(b"DSDT", Reason::Missing)])
    );
}

#[test]
fn sleep_types_are_searched_for_within_the_code() {
    let types = |code: &[u8]| {
        let machine = with_fadt(fadt(276, &[(64, &[4, 6]), (68, &[8, 6])]), code);
        match machine.read().soft_off {
            Some(SoftOff::PowerManagement { a: (_, a), b }) => {
                (machine.faults().is_empty()).then_some((a, b.expect("PM1b_CNT").1))
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(types(&dsdt_with_soft_off(7, 3)), Some((7, 3)));
    assert_eq!(types(b"\x08_S5_\x12\x06\x04\x01\x01\x00\x00"), Some((1, 1)));
    assert_eq!(
        types(b"\x08_S5_\x12\x05\x01\x0b\x05\x00"),
        Some((5, 5)),
        "one number serves both"
    );
    assert_eq!(
        types(b"\x08_S5_\x12\x48\x00\x04\x0a\x05\x0a\x06\x00"),
        Some((5, 6)),
        "a length of two bytes"
    );
    assert_eq!(
        types(b"\x0d_S5_\x12\0\x08_S5_\x12\x04\x02\x01\x00"),
        Some((1, 0)),
        "first as text"
    );
    for code in [
        &b""[..],
        b"_S5_",
        b"_S5_\x12",
        b"\x08_S5_\x12\xff",
        b"\x08_S5_\x12\xc0\xff\xff\xff\x00",
        b"\x08_S5_\x12\x05\x01\x0a",
        b"\x08_S5_\x12\x02\x00",
        b"\x08_S5_\x12\x00\x01\x05\x05\x05",
        b"\x08_S5_\x12\x06\x02ABCD",
    ] {
        assert_eq!(types(code), None, "{code:?}");
    }
}

#[test]
fn configuration_space_makes_sense_or_is_left_out() {
    let with = |allocations: &[Vec<u8>]| {
        let machine = Machine::new().with(b"MCFG", 1, &mcfg(allocations)).finish(List::Xsdt);
        let found: Vec<_> = machine.read().ecam.iter().map(|ecam| ecam.registers).collect();
        (found, machine.faults())
    };
    // The base is bus 0's.
    let (found, faults) = with(&[allocation(0x1000_0000, 1, 16, 31)]);
    assert_eq!((found, faults), (std::vec![range(0x1100_0000, 16 << 20)], Vec::new()));
    let (found, faults) = with(&[
        allocation(0x1000_0000, 0, 0, 15),
        allocation(0x4000_0000, 0, 15, 16),
        allocation(0x10f0_0000, 1, 0, 0),
        allocation(0x4000_0000, 2, 5, 4),
        allocation(0, 3, 0, 4),
        allocation(u64::MAX - 0xfffff, 4, 0, 4),
        allocation(0x4000_0000, 5, 0, 0)[..11].to_vec(),
    ]);
    assert_eq!(found, [range(0x1000_0000, 16 << 20)]);
    let reasons = [Reason::Duplicate, Reason::Value, Reason::Short];
    assert_eq!(faults, reasons.map(|reason| fault(b"MCFG", reason)));
    let many: Vec<_> = (1..20).map(|at| allocation(u64::from(at) << 20, at, 0, 0)).collect();
    assert_eq!(
        (with(&many).0.len(), with(&many).1),
        (8, std::vec![fault(b"MCFG", Reason::Full)])
    );
}

#[test]
fn an_hpet_is_in_memory() {
    for address in [gas(1, 0, 0, 0x400), gas(0, 64, 0, 0)] {
        let machine = Machine::new().with(b"HPET", 1, &hpet(&address)).finish(List::Rsdt);
        assert_eq!(machine.faults(), [fault(b"HPET", Reason::Value)]);
        assert_eq!(machine.read().hpet, None);
    }
}
