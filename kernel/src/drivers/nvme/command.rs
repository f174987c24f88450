//! What is said to an NVMe controller and what it answers (NVM Express Base 2.0c, 3.3.3; NVM Command Set 1.0c, 3).

/// A submission queue entry (figure 86).
pub type Entry = [u32; 16];

/// Words of an entry.
const NAMESPACE: usize = 1;
const DATA: usize = 6;
const SPECIFIC: usize = 10;

/// Opcodes of admin commands (figure 138).
const CREATE_SUBMISSION: u32 = 0x01;
const CREATE_COMPLETION: u32 = 0x05;
const IDENTIFY: u32 = 0x06;
const SET_FEATURES: u32 = 0x09;
/// Opcodes of the NVM command set (figure 18 there).
const FLUSH: u32 = 0x00;
const WRITE: u32 = 0x01;
const READ: u32 = 0x02;

/// Feature: number of queues (5.27.1.5).
const NUMBER_OF_QUEUES: u32 = 0x07;
/// Of a queue: contiguous in memory; interrupts.
const CONTIGUOUS: u32 = 1 << 0;
const INTERRUPTS: u32 = 1 << 1;

/// What [`identify`] asks for (figure 273).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Subject {
    /// One namespace.
    Namespace = 0,
    /// The controller.
    Controller = 1,
    /// The namespaces there are, from one on.
    Namespaces = 2,
}

/// A completion queue entry (figure 89).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The command's identifier.
    pub id: u16,
    /// Status code and its type; 0 is success.
    pub status: u16,
    /// What the command returns.
    pub result: u32,
}

fn entry(opcode: u32, id: u16, namespace: u32, data: [u64; 2], specific: [u32; 3]) -> Entry {
    let mut entry = [0; 16];
    entry[0] = opcode | u32::from(id) << 16;
    entry[NAMESPACE] = namespace;
    for (place, pointer) in data.into_iter().enumerate() {
        entry[DATA + 2 * place] = pointer as u32;
        entry[DATA + 2 * place + 1] = (pointer >> 32) as u32;
    }
    entry[SPECIFIC..SPECIFIC + 3].copy_from_slice(&specific);
    entry
}

/// Asks for a description of 4096 bytes, to be put at `buffer`.
pub fn identify(subject: Subject, namespace: u32, buffer: u64) -> Entry {
    entry(IDENTIFY, 0, namespace, [buffer, 0], [subject as u32, 0, 0])
}

/// Asks for so many queues of each kind, at least 1.
pub fn ask_for_queues(count: u16) -> Entry {
    let count = u32::from(count - 1);
    entry(SET_FEATURES, 0, 0, [0; 2], [NUMBER_OF_QUEUES, count << 16 | count, 0])
}

/// How many pairs of queues there may be, by what [`ask_for_queues`] returns.
pub fn queues_given(result: u32) -> u16 {
    (result as u16).min((result >> 16) as u16).saturating_add(1)
}

/// Makes the completion queue `queue`, of so many entries at `memory`, that interrupts by `vector`.
pub fn create_completion(queue: u16, entries: u16, memory: u64, vector: u16) -> Entry {
    let size = u32::from(entries - 1) << 16 | u32::from(queue);
    let how = u32::from(vector) << 16 | INTERRUPTS | CONTIGUOUS;
    entry(CREATE_COMPLETION, 0, 0, [memory, 0], [size, how, 0])
}

/// Makes the submission queue `queue` over the completion queue of the same number.
pub fn create_submission(queue: u16, entries: u16, memory: u64) -> Entry {
    let size = u32::from(entries - 1) << 16 | u32::from(queue);
    let how = u32::from(queue) << 16 | CONTIGUOUS;
    entry(CREATE_SUBMISSION, 0, 0, [memory, 0], [size, how, 0])
}

/// Which blocks a command moves.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// The namespace.
    pub namespace: u32,
    /// The first one.
    pub first: u64,
    /// How many: 1 to 65,536.
    pub count: u32,
}

/// Reads or writes blocks; `data` are the two pointers to memory.
pub fn transfer(write: bool, id: u16, blocks: Blocks, data: [u64; 2]) -> Entry {
    let opcode = if write { WRITE } else { READ };
    let first = blocks.first;
    let specific = [first as u32, (first >> 32) as u32, blocks.count - 1];
    entry(opcode, id, blocks.namespace, data, specific)
}

/// Makes what was written durable.
pub fn flush(id: u16, namespace: u32) -> Entry {
    entry(FLUSH, id, namespace, [0; 2], [0; 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_laid_out_as_the_specification_has_it() {
        let blocks = Blocks {
            namespace: 7,
            first: 0x1_2345_6789,
            count: 8,
        };
        let entry = transfer(false, 0x42, blocks, [0x11_2222_3000, 0x44_5555_6000]);
        let expected = [
            0x0042_0002,
            7,
            0,
            0,
            0,
            0,
            0x2222_3000,
            0x11,
            0x5555_6000,
            0x44,
            0x2345_6789,
            1,
            7,
            0,
            0,
            0,
        ];
        assert_eq!(entry, expected);
    }

    #[test]
    fn queues_are_counted_from_zero() {
        assert_eq!(ask_for_queues(4)[10..12], [7, 0x0003_0003]);
        assert_eq!(
            (queues_given(0x0007_0003), queues_given(0), queues_given(u32::MAX)),
            (4, 1, u16::MAX)
        );
        assert_eq!(create_completion(1, 256, 0x5000, 3)[10..12], [0x00ff_0001, 0x0003_0003]);
        assert_eq!(create_submission(1, 256, 0x5000)[10..12], [0x00ff_0001, 0x0001_0001]);
    }
}
