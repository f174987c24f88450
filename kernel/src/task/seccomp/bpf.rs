//! Classic BPF (`linux/filter.h`), as far as filters of system calls have it.
//!
//! A program is checked once and then run by what follows: it reads nothing but the 64 bytes it is run on and its own 16
//! words of memory, which it has written before; jumps lead forward only, so that it ends after at most as many steps as it
//! has instructions.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, Result};

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip where the condition holds,
    pub jump_true: u8,
    /// and where it does not.
    pub jump_false: u8,
    /// The operand.
    pub k: u32,
}

/// `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;
/// `BPF_MEMWORDS`.
const MEMORY: usize = 16;
/// The words of what a program is run on.
pub const WORDS: usize = 16;
/// The same in bytes (`sizeof(struct seccomp_data)`).
const LENGTH: u32 = 64;

mod code {
    pub const LD_IMMEDIATE: u16 = 0x00;
    pub const LDX_IMMEDIATE: u16 = 0x01;
    pub const LD_ABSOLUTE: u16 = 0x20;
    pub const LD_MEMORY: u16 = 0x60;
    pub const LDX_MEMORY: u16 = 0x61;
    pub const LD_LENGTH: u16 = 0x80;
    pub const LDX_LENGTH: u16 = 0x81;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ADD: u16 = 0x04;
    pub const SUB: u16 = 0x14;
    pub const MUL: u16 = 0x24;
    pub const DIV: u16 = 0x34;
    pub const OR: u16 = 0x44;
    pub const AND: u16 = 0x54;
    pub const LSH: u16 = 0x64;
    pub const RSH: u16 = 0x74;
    pub const NEG: u16 = 0x84;
    pub const XOR: u16 = 0xa4;
    pub const JA: u16 = 0x05;
    pub const JEQ: u16 = 0x15;
    pub const JGT: u16 = 0x25;
    pub const JGE: u16 = 0x35;
    pub const JSET: u16 = 0x45;
    pub const RET_K: u16 = 0x06;
    pub const RET_A: u16 = 0x16;
    pub const TAX: u16 = 0x07;
    pub const TXA: u16 = 0x87;
    /// The operand of a calculation or a jump is X, not `k`.
    pub const X: u16 = 0x08;
}

/// A program that has been checked.
#[derive(Debug)]
pub struct Program(Vec<Instruction>);

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// `EINVAL` for one that is empty or too long, does not end by returning, or has an instruction that is none or might
    /// jump or reach elsewhere.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self> {
        let length = instructions.len();
        if length == 0 || length > MAX_INSTRUCTIONS {
            return Err(Errno::EINVAL);
        }
        let is_sound = instructions
            .iter()
            .enumerate()
            .all(|(at, instruction)| is_sound(*instruction, length - at - 1));
        let returns = matches!(instructions[length - 1].code, code::RET_K | code::RET_A);
        if is_sound && returns && reads_what_it_wrote(&instructions) {
            Ok(Self(instructions))
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// Its instructions.
    pub fn code(&self) -> &[Instruction] {
        &self.0
    }

    /// What it returns for `data`.
    pub fn run(&self, data: &[u32; WORDS]) -> u32 {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0);
        let mut memory = [0; MEMORY];
        while let Some(Instruction {
            code,
            jump_true,
            jump_false,
            k,
        }) = self.0.get(at).copied()
        {
            at += 1;
            let operand = if code & code::X == 0 { k } else { x };
            let mut jump = |holds: bool| at += usize::from(if holds { jump_true } else { jump_false });
            match code {
                code::LD_IMMEDIATE => a = k,
                code::LDX_IMMEDIATE => x = k,
                code::LD_ABSOLUTE => a = data[k as usize / 4 % WORDS],
                code::LD_MEMORY => a = memory[k as usize % MEMORY],
                code::LDX_MEMORY => x = memory[k as usize % MEMORY],
                code::LD_LENGTH => a = LENGTH,
                code::LDX_LENGTH => x = LENGTH,
                code::ST => memory[k as usize % MEMORY] = a,
                code::STX => memory[k as usize % MEMORY] = x,
                code::RET_K => return k,
                code::RET_A => return a,
                code::TAX => x = a,
                code::TXA => a = x,
                code::NEG => a = a.wrapping_neg(),
                code::JA => at += k as usize,
                _ => match code & !code::X {
                    code::ADD => a = a.wrapping_add(operand),
                    code::SUB => a = a.wrapping_sub(operand),
                    code::MUL => a = a.wrapping_mul(operand),
                    // A division by zero ends the program.
                    code::DIV => match a.checked_div(operand) {
                        Some(quotient) => a = quotient,
                        None => return 0,
                    },
                    code::OR => a |= operand,
                    code::AND => a &= operand,
                    code::XOR => a ^= operand,
                    code::LSH => a = a.wrapping_shl(operand),
                    code::RSH => a = a.wrapping_shr(operand),
                    code::JEQ => jump(a == operand),
                    code::JGT => jump(a > operand),
                    code::JGE => jump(a >= operand),
                    code::JSET => jump(a & operand != 0),
                    // None that was let in.
                    _ => return 0,
                },
            }
        }
        0
    }
}

/// Whether an instruction is one, with `after` more behind it.
fn is_sound(
    Instruction {
        code,
        jump_true,
        jump_false,
        k,
    }: Instruction,
    after: usize,
) -> bool {
    match code {
        code::LD_ABSOLUTE => k < LENGTH && k.is_multiple_of(4),
        code::LD_MEMORY | code::LDX_MEMORY | code::ST | code::STX => (k as usize) < MEMORY,
        code::DIV => k != 0,
        code::LSH | code::RSH => k < 32,
        code::JA => (k as usize) < after,
        code::LD_IMMEDIATE
        | code::LDX_IMMEDIATE
        | code::LD_LENGTH
        | code::LDX_LENGTH
        | code::RET_K
        | code::RET_A
        | code::TAX
        | code::TXA
        | code::NEG => true,
        _ => match code & !code::X {
            code::ADD
            | code::SUB
            | code::MUL
            | code::DIV
            | code::OR
            | code::AND
            | code::XOR
            | code::LSH
            | code::RSH => true,
            code::JEQ | code::JGT | code::JGE | code::JSET => {
                usize::from(jump_true) < after && usize::from(jump_false) < after
            }
            _ => false,
        },
    }
}

/// Whether no way through the program reads a word of memory before one that has written it.
fn reads_what_it_wrote(instructions: &[Instruction]) -> bool {
    // What has been written on every way to each instruction.
    let mut written = [u16::MAX; MAX_INSTRUCTIONS];
    let mut now = 0u16;
    for (at, instruction) in instructions.iter().enumerate() {
        now &= written[at];
        let Instruction {
            code,
            jump_true,
            jump_false,
            k,
        } = *instruction;
        let mut leads_to = |by: usize| written[at + 1 + by] &= now;
        match code {
            code::ST | code::STX => now |= 1 << k,
            code::LD_MEMORY | code::LDX_MEMORY if now >> k & 1 == 0 => return false,
            code::JA => {
                leads_to(k as usize);
                now = u16::MAX;
            }
            _ if matches!(code & !code::X, code::JEQ | code::JGT | code::JGE | code::JSET) => {
                leads_to(usize::from(jump_true));
                leads_to(usize::from(jump_false));
                now = u16::MAX;
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn statement(code: u16, k: u32) -> Instruction {
        Instruction {
            code,
            jump_true: 0,
            jump_false: 0,
            k,
        }
    }

    const fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
        Instruction {
            code,
            jump_true,
            jump_false,
            k,
        }
    }

    const RETURN: Instruction = statement(code::RET_A, 0);

    fn is_refused(instructions: &[Instruction]) -> bool {
        Program::new(instructions.to_vec()).is_err()
    }

    fn value(instructions: &[Instruction]) -> u32 {
        let data = core::array::from_fn(|i| i as u32 * 3);
        Program::new(instructions.to_vec()).unwrap().run(&data)
    }

    /// `xorshift64*`.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u32 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
        }

        fn below(&mut self, end: u32) -> u32 {
            self.next() % end
        }

        /// Mostly one that is allowed; operands mostly small.
        fn instruction(&mut self) -> Instruction {
            const CODES: [u16; 26] = [
                0x00, 0x01, 0x20, 0x60, 0x61, 0x80, 0x81, 0x02, 0x03, 0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74,
                0x84, 0xa4, 0x05, 0x15, 0x25, 0x35, 0x45, 0x07, 0x87,
            ];
            let code = match self.below(40) {
                0 => self.next() as u16,
                1 => code::RET_K,
                _ => CODES[self.below(26) as usize] | if self.below(6) == 0 { code::X } else { 0 },
            };
            Instruction {
                code,
                jump_true: self.below(5) as u8,
                jump_false: self.below(5) as u8,
                k: match self.below(12) {
                    0 => self.next(),
                    1 => self.below(64),
                    _ => self.below(4) * 4 % 16,
                },
            }
        }
    }

    /// Runs a program by the letter, with what the checker promises asserted at each step.
    fn walk(instructions: &[Instruction], data: [u32; WORDS]) -> u32 {
        let (mut a, mut x, mut at, mut steps) = (0u32, 0u32, 0usize, 0);
        let mut memory = [None; MEMORY];
        loop {
            assert!(at < instructions.len(), "it runs off its end");
            let Instruction {
                code,
                jump_true,
                jump_false,
                k,
            } = instructions[at];
            steps += 1;
            assert!(steps <= instructions.len(), "it never ends");
            at += 1;
            let operand = if code & 8 == 0 { k } else { x };
            let condition = match code & 0xf7 {
                0x15 => Some(a == operand),
                0x25 => Some(a > operand),
                0x35 => Some(a >= operand),
                0x45 => Some(a & operand != 0),
                _ => None,
            };
            if let Some(holds) = condition {
                at += usize::from(if holds { jump_true } else { jump_false });
                continue;
            }
            match code {
                0x00 => a = k,
                0x01 => x = k,
                0x20 => {
                    assert_eq!(k % 4, 0);
                    a = data[k as usize / 4];
                }
                0x60 => a = memory[k as usize].expect("written before"),
                0x61 => x = memory[k as usize].expect("written before"),
                0x80 => a = 64,
                0x81 => x = 64,
                0x02 => memory[k as usize] = Some(a),
                0x03 => memory[k as usize] = Some(x),
                0x05 => at += k as usize,
                0x06 => return k,
                0x16 => return a,
                0x07 => x = a,
                0x87 => a = x,
                0x84 => a = 0u32.wrapping_sub(a),
                _ => {
                    a = match code & 0xf7 {
                        0x04 => a.wrapping_add(operand),
                        0x14 => a.wrapping_sub(operand),
                        0x24 => a.wrapping_mul(operand),
                        0x34 if operand == 0 => return 0,
                        0x34 => a / operand,
                        0x44 => a | operand,
                        0x54 => a & operand,
                        0xa4 => a ^ operand,
                        0x64 => a << (operand % 32),
                        0x74 => a >> (operand % 32),
                        _ => panic!("{code:#x} was let in"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_accepted_stays_inside_and_ends() {
        let mut random = Random(0x5eed);
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..200_000 {
            let length = 1 + random.below(12);
            let mut instructions: Vec<Instruction> = (1..length).map(|_| random.instruction()).collect();
            instructions.push(if random.below(20) == 0 {
                random.instruction()
            } else {
                RETURN
            });
            let Ok(program) = Program::new(instructions.clone()) else {
                refused += 1;
                continue;
            };
            accepted += 1;
            for _ in 0..4 {
                let data = core::array::from_fn(|_| {
                    if random.below(2) == 0 {
                        random.next()
                    } else {
                        random.below(8)
                    }
                });
                assert_eq!(program.run(&data), walk(&instructions, data), "{instructions:?}");
            }
        }
        assert!(
            accepted > 5_000 && refused > 5_000,
            "{accepted} of {}",
            accepted + refused
        );
    }

    #[test]
    fn edges_are_checked() {
        assert!(is_refused(&[]));
        assert!(is_refused(&[statement(code::LD_IMMEDIATE, 0)]), "it must return");
        assert!(!is_refused(&[RETURN]));
        assert!(!is_refused(&[statement(code::RET_K, 7); MAX_INSTRUCTIONS]));
        assert!(is_refused(&[statement(code::RET_K, 7); MAX_INSTRUCTIONS + 1]));
        for (good, bad) in [
            (statement(code::LD_ABSOLUTE, 60), statement(code::LD_ABSOLUTE, 64)),
            (statement(code::LD_ABSOLUTE, 4), statement(code::LD_ABSOLUTE, 2)),
            // Linux's ancillary data begin at this place.
            (
                statement(code::LD_ABSOLUTE, 0),
                statement(code::LD_ABSOLUTE, 0xffff_f000),
            ),
            (statement(code::ST, 15), statement(code::ST, 16)),
            (statement(code::STX, 15), statement(code::STX, 16)),
            (statement(code::DIV, 1), statement(code::DIV, 0)),
            (statement(code::DIV | code::X, 0), statement(0x94, 1)),
            (statement(code::LSH, 31), statement(code::LSH, 32)),
            (statement(code::RSH, 31), statement(code::RSH, 32)),
            // Half-words, bytes, indirect loads, and the instructions that no filter has.
            (statement(code::TAX, 0), statement(0x28, 0)),
            (statement(code::TXA, 0), statement(0x30, 0)),
            (statement(code::NEG, 0), statement(0x40, 0)),
            (statement(code::LD_LENGTH, 0), statement(0xb1, 0)),
            (statement(code::RET_K, 0), statement(0x0e, 0)),
            (statement(code::ADD, 0), statement(0x8c, 0)),
            (statement(code::ADD, 0), statement(0x0104, 0)),
        ] {
            assert!(!is_refused(&[good, RETURN]), "{good:?}");
            assert!(is_refused(&[bad, RETURN]), "{bad:?}");
        }
        assert!(!is_refused(&[statement(code::JA, 0), RETURN]));
        assert!(is_refused(&[statement(code::JA, 1), RETURN]));
        assert!(is_refused(&[statement(code::JA, u32::MAX), RETURN]));
        assert!(!is_refused(&[jump(code::JEQ, 0, 1, 0), RETURN, RETURN]));
        assert!(is_refused(&[jump(code::JEQ, 0, 2, 0), RETURN, RETURN]));
        assert!(is_refused(&[jump(code::JSET | code::X, 0, 0, 2), RETURN, RETURN]));
    }

    #[test]
    fn memory_is_read_after_every_way_has_written_it() {
        let read = statement(code::LD_MEMORY, 3);
        assert!(is_refused(&[read, RETURN]));
        assert!(!is_refused(&[statement(code::ST, 3), read, RETURN]));
        assert!(is_refused(&[statement(code::ST, 2), read, RETURN]));
        // One of two ways writes.
        assert!(is_refused(&[
            jump(code::JEQ, 0, 0, 1),
            statement(code::ST, 3),
            read,
            RETURN
        ]));
        assert!(!is_refused(&[
            jump(code::JEQ, 0, 0, 2),
            statement(code::ST, 3),
            statement(code::JA, 1),
            statement(code::STX, 3),
            read,
            RETURN
        ]));
        // Nobody comes to what follows a jump but by another.
        assert!(!is_refused(&[statement(code::JA, 1), read, RETURN]));
    }

    #[test]
    fn it_calculates() {
        assert_eq!(value(&[statement(code::LD_ABSOLUTE, 8), RETURN]), 6);
        assert_eq!(value(&[statement(code::LD_LENGTH, 0), RETURN]), 64);
        assert_eq!(
            value(&[statement(code::LD_IMMEDIATE, 1), statement(code::NEG, 0), RETURN]),
            u32::MAX
        );
        assert_eq!(
            value(&[
                statement(code::LD_IMMEDIATE, 9),
                statement(code::DIV | code::X, 0),
                RETURN
            ]),
            0,
            "X is zero at first"
        );
        assert_eq!(
            value(&[
                statement(code::LD_IMMEDIATE, 1),
                statement(code::LDX_IMMEDIATE, 33),
                statement(code::LSH | code::X, 0),
                RETURN
            ]),
            2,
            "shifts are of five bits"
        );
    }
}
