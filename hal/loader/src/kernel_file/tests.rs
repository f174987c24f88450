use super::*;
use alloc::vec;

const BASE: u64 = 0x20_0000;
const HIGH: u64 = 0xffff_ffff_8000_0000;

/// (type, offset in the file, physical address, bytes in the file, bytes in memory).
type Segment = (u32, u64, u64, u64, u64);

/// An ELF file (ELF-64 object file format, figures 2 and 6) of 4 KiB with these segments, and a build id at 2048.
fn file(segments: &[Segment], entry: u64) -> Vec<u8> {
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend([2, 0, 183, 0, 1, 0, 0, 0]);
    for word in [entry, 64, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend([0; 4]);
    for half in [64, 56, segments.len() as u16, 64, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    for &(kind, offset, address, in_file, in_memory) in segments {
        out.extend(kind.to_le_bytes());
        out.extend(5u32.to_le_bytes());
        for word in [offset, HIGH.wrapping_add(address), address, in_file, in_memory, 4] {
            out.extend(word.to_le_bytes());
        }
    }
    out.resize(2048, 0);
    for word in [4u32, 20, 3, u32::from_le_bytes(*b"GNU\0")] {
        out.extend(word.to_le_bytes());
    }
    out.extend([0xab; 20]);
    out.resize(4096, 0xcc);
    out
}

const NOTE: Segment = (PT_NOTE, 2048, BASE, 36, 36);

fn good() -> Vec<u8> {
    let text = (PT_LOAD, 0, BASE, 0x100, 0x100);
    let data = (PT_LOAD, 0x200, BASE + 0x1000, 0x80, 0x3000);
    file(&[text, data, NOTE], HIGH + BASE + 0x40)
}

#[test]
fn a_kernel_is_planned() {
    let plan = Plan::of(&good(), Machine::Aarch64).unwrap();
    assert_eq!((plan.size, plan.entry, plan.build_id), (0x4000, 0x40, [0xab; 20]));
    let data = Part {
        file: 0x200..0x280,
        at: 0x1000,
    };
    assert_eq!(plan.parts[1], data);
}

#[test]
fn other_files_are_refused() {
    let text = (PT_LOAD, 0, BASE, 0x100, 0x100);
    let entry = HIGH + BASE;
    let of = |segments: &[Segment], entry| Plan::of(&file(segments, entry), Machine::Aarch64).unwrap_err();
    assert_eq!(Plan::of(b"no kernel", Machine::Aarch64), Err(Error::NoElf));
    assert_eq!(Plan::of(&good(), Machine::X86_64), Err(Error::WrongMachine));
    assert_eq!(of(&[text], entry), Error::NoBuildId);
    assert_eq!(of(&[NOTE], entry), Error::BadSegments);
    assert_eq!(of(&[text, NOTE], entry + 0x100), Error::BadEntry);
    assert_eq!(of(&[text, NOTE], 0), Error::BadEntry);
    let past_the_end = (PT_LOAD, 0xf00, BASE, 0x101, 0x200);
    assert_eq!(of(&[past_the_end, NOTE], entry), Error::Truncated);
    let wraps = (PT_LOAD, u64::MAX, BASE, 2, 2);
    assert_eq!(of(&[wraps, NOTE], entry), Error::Truncated);
    let misaligned = (PT_LOAD, 0, BASE + 0x1000, 0x100, 0x100);
    assert_eq!(of(&[misaligned, NOTE], entry), Error::BadSegments);
    let overlapping = (PT_LOAD, 0, BASE + 0x80, 0x100, 0x100);
    assert_eq!(of(&[text, overlapping, NOTE], entry), Error::BadSegments);
    let far = (PT_LOAD, 0, BASE + (1 << 40), 0x100, 0x100);
    assert_eq!(of(&[text, far, NOTE], entry), Error::BadSegments);
    let huge = (PT_LOAD, 0, BASE, 0x100, u64::MAX);
    assert_eq!(of(&[huge, NOTE], entry), Error::BadSegments);
    let shrinking = (PT_LOAD, 0, BASE, 0x100, 0x80);
    assert_eq!(of(&[shrinking, NOTE], entry), Error::BadSegments);
}

#[test]
fn broken_bytes_never_panic() {
    let good = good();
    for at in 0..256 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut file = good.clone();
            file[at] = value;
            let _ = Plan::of(&file, Machine::Aarch64);
        }
    }
    for length in 0..good.len() {
        let _ = Plan::of(&good[..length], Machine::Aarch64);
    }
}
