//! The two bounded buffers of a terminal: the ring of received bytes with its line ends, and the ring of bytes on their way
//! to the device.

use alloc::{boxed::Box, vec};

/// Bytes of a terminal's input: Linux's `N_TTY_BUF_SIZE`, hence the longest line.
pub const INPUT_SIZE: usize = 4096;
/// Bytes that writers may have waiting for the device.
pub const OUTPUT_SIZE: usize = 4096;
/// Room past [`OUTPUT_SIZE`] that only echo uses, so that a writer who fills the buffer does not silence the keyboard.
pub const ECHO_RESERVE: usize = 4096;

/// Received bytes. Positions count from the terminal's start and wrap; `tail..line_head` are whole lines (canonical mode),
/// `line_head..head` the line being edited.
pub struct InputBuffer {
    bytes: Box<[u8]>,
    ends: Box<[u64]>,
    tail: u32,
    line_head: u32,
    head: u32,
}

impl InputBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; INPUT_SIZE].into_boxed_slice(),
            ends: vec![0; INPUT_SIZE / 64].into_boxed_slice(),
            tail: 0,
            line_head: 0,
            head: 0,
        }
    }

    /// Bytes held, those of an unfinished line included.
    pub fn len(&self) -> usize {
        self.head.wrapping_sub(self.tail) as usize
    }

    /// Bytes of finished lines, their ends included.
    pub fn lines_len(&self) -> usize {
        self.line_head.wrapping_sub(self.tail) as usize
    }

    /// Bytes of the line being edited.
    pub fn edited_len(&self) -> usize {
        self.head.wrapping_sub(self.line_head) as usize
    }

    /// Bytes that still fit. One place stays free, as in Linux.
    pub fn room(&self) -> usize {
        INPUT_SIZE - 1 - self.len()
    }

    /// Adds one byte at the head, over the last one where there is no room.
    pub fn push(&mut self, byte: u8) {
        if self.len() >= INPUT_SIZE {
            self.head = self.head.wrapping_sub(1);
        }
        self.bytes[slot(self.head)] = byte;
        self.set_end(self.head, false);
        self.head = self.head.wrapping_add(1);
    }

    /// Adds the byte that ends a line; all before it can be read now.
    pub fn push_end(&mut self, byte: u8) {
        self.push(byte);
        self.set_end(self.head.wrapping_sub(1), true);
        self.line_head = self.head;
    }

    /// The edited line's byte at `index`.
    pub fn edited(&self, index: usize) -> u8 {
        self.bytes[slot(self.line_head.wrapping_add(index as u32))]
    }

    /// Cuts the edited line to `length` bytes.
    pub fn truncate_edited(&mut self, length: usize) {
        if length < self.edited_len() {
            self.head = self.line_head.wrapping_add(length as u32);
        }
    }

    /// The readable byte at `index` from the tail, and whether it ends a line.
    pub fn peek(&self, index: usize) -> (u8, bool) {
        let position = self.tail.wrapping_add(index as u32);
        (
            self.bytes[slot(position)],
            self.ends[slot(position) / 64] >> (slot(position) % 64) & 1 == 1,
        )
    }

    /// The readable bytes from the tail, at most `length`, in up to two pieces.
    pub fn front(&self, length: usize) -> (&[u8], &[u8]) {
        let length = length.min(self.len());
        let start = slot(self.tail);
        let first = length.min(INPUT_SIZE - start);
        (&self.bytes[start..start + first], &self.bytes[..length - first])
    }

    /// Takes `length` bytes off the tail.
    pub fn consume(&mut self, length: usize) {
        for index in 0..length {
            self.set_end(self.tail.wrapping_add(index as u32), false);
        }
        let lines = self.lines_len();
        self.tail = self.tail.wrapping_add(length as u32);
        if length > lines {
            self.line_head = self.tail;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ends.fill(0);
        self.tail = self.head;
        self.line_head = self.head;
    }

    /// Into canonical mode: what is there becomes one finished line.
    pub fn close_line(&mut self) {
        self.ends.fill(0);
        self.line_head = self.head;
        if self.len() > 0 {
            self.set_end(self.head.wrapping_sub(1), true);
        }
    }

    /// Into raw mode: lines have no ends any more.
    pub fn open_lines(&mut self) {
        self.ends.fill(0);
        self.line_head = self.tail;
    }

    fn set_end(&mut self, position: u32, end: bool) {
        let (word, bit) = (slot(position) / 64, 1u64 << (slot(position) % 64));
        if end {
            self.ends[word] |= bit;
        } else {
            self.ends[word] &= !bit;
        }
    }
}

fn slot(position: u32) -> usize {
    position as usize % INPUT_SIZE
}

/// Bytes on their way to the device.
pub struct OutputBuffer {
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
    /// Bytes ever added.
    added: u64,
}

impl OutputBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; OUTPUT_SIZE + ECHO_RESERVE].into_boxed_slice(),
            start: 0,
            len: 0,
            added: 0,
        }
    }

    /// How many bytes have ever been added, and how many of those have left again, sent or thrown away.
    pub fn positions(&self) -> (u64, u64) {
        (self.added, self.added - self.len as u64)
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that a writer may add.
    pub fn room(&self) -> usize {
        OUTPUT_SIZE.saturating_sub(self.len)
    }

    /// Bytes that echo may add.
    pub fn echo_room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Adds a byte; one that does not even fit into the reserve is dropped.
    pub fn push(&mut self, byte: u8) {
        if self.len < self.bytes.len() {
            let at = (self.start + self.len) % self.bytes.len();
            self.bytes[at] = byte;
            self.len += 1;
            self.added += 1;
        }
    }

    /// Moves bytes out into `into`; returns how many.
    pub fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.len);
        for place in &mut into[..count] {
            *place = self.bytes[self.start];
            self.start = (self.start + 1) % self.bytes.len();
        }
        self.len -= count;
        count
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}
