//! QEMU's log: which blocks of instructions there are (`in_asm`), and in which order they ran (`exec`).

use anyhow::Result;
use std::collections::HashMap;
use std::io::BufRead;

/// What a guest ran.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The addresses of a block's instructions, by that of the first.
    pub blocks: HashMap<u64, Vec<u64>>,
    /// The blocks that ran, by the address of their first instruction.
    pub runs: Vec<u64>,
}

impl Log {
    /// Reads a log. Lines that say something else are passed over, and so is the last one if it is cut off.
    ///
    /// # Errors
    /// The reader's.
    pub fn read(mut reader: impl BufRead) -> Result<Self> {
        let mut log = Self::default();
        let mut block: Option<u64> = None;
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            if text.starts_with("IN:") {
                // The next instruction begins a block, maybe one that has been translated before.
                block = None;
            } else if let Some(address) = run(&text) {
                log.runs.push(address);
            } else if let Some(address) = instruction(&text) {
                let first = *block.get_or_insert_with(|| {
                    log.blocks.remove(&address);
                    address
                });
                log.blocks.entry(first).or_default().push(address);
            }
            line.clear();
        }
        Ok(log)
    }
}

/// The block of `Trace 0: 0x7f85dc442a40 [cs_base/pc/flags/cflags] symbol`.
fn run(line: &str) -> Option<u64> {
    let (_, fields) = line.strip_prefix("Trace ")?.split_once('[')?;
    let (fields, _) = fields.split_once(']')?;
    u64::from_str_radix(fields.split('/').nth(1)?, 16).ok()
}

/// The address of `0xffffffff8025f587:  8b 40 28     movl     0x28(%rax), %eax`; `None` where an instruction's bytes go on in
/// a line of their own.
fn instruction(line: &str) -> Option<u64> {
    let (address, rest) = line.strip_prefix("0x")?.split_once(':')?;
    let is_code = |word: &str| matches!(word.len(), 2 | 8) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let named = rest.split_whitespace().any(|word| !is_code(word));
    named.then(|| u64::from_str_radix(address, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_runs_are_read() {
        let text = "----------------\n\
            IN: a_function\n\
            0xffffffff80201000:  55                       pushq    %rbp\n\
            0xffffffff80201001:  65 48 8b 04 25 00 00 00  movq     %gs:0, %rax\n\
            0xffffffff80201009:  00\n\
            \n\
            Trace 0: 0x7f85dc442a40 [0000000000000000/ffffffff80201000/18c0c2b0/ff020200] a_function\n\
            ----------------\n\
            IN: \n\
            0x0022a1f4:  910063e8  add      x8, sp, #0x18\n\
            0x0022a1f8:  d63f0260  blr      x19\n\
            Trace 0: 0x7f85dc4423 [0000000000000000/000000000022a1f4/18c0c2b0/ff020200]\n\
            Trace 0: 0x7f85dc442a40 [0000000000000000/fffff";
        let log = Log::read(text.as_bytes()).unwrap();
        assert_eq!(
            log.blocks[&0xffff_ffff_8020_1000],
            [0xffff_ffff_8020_1000, 0xffff_ffff_8020_1001]
        );
        assert_eq!(log.blocks[&0x22_a1f4], [0x22_a1f4, 0x22_a1f8]);
        assert_eq!(log.runs, [0xffff_ffff_8020_1000, 0x22_a1f4]);
    }

    #[test]
    fn a_block_that_is_translated_again_replaces_the_first() {
        let text = "IN: f\n0x10: 55 pushq %rbp\n0x11: 56 pushq %rsi\nIN: f\n0x10: 55 pushq %rbp\n";
        assert_eq!(Log::read(text.as_bytes()).unwrap().blocks[&0x10], [0x10]);
    }
}
