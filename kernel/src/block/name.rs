//! What disks are called.

use core::fmt::Write;

use arrayvec::ArrayString;

/// A disk's name, as Linux gives it (`nvme0n1`, `sda`, `vda`).
pub type Name = ArrayString<16>;

/// The name of the `index`th disk of a kind whose disks are lettered: `sda` to `sdz`, then `sdaa` (`disk_name` in Linux's
/// `drivers/scsi/sd.c`).
pub fn letters(prefix: &str, index: u32) -> Name {
    let mut reversed: ArrayString<8> = ArrayString::new();
    let mut rest = index;
    loop {
        // Room for every u32: seven letters.
        reversed.push(char::from(b'a' + (rest % 26) as u8));
        match (rest / 26).checked_sub(1) {
            Some(more) => rest = more,
            None => break,
        }
    }
    let mut name = Name::new();
    // Seven letters, and a prefix of ours.
    _ = name.write_str(prefix);
    for letter in reversed.chars().rev() {
        _ = name.write_char(letter);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::letters;

    #[test]
    fn letters_go_on_after_z() {
        let names = [(0, "sda"), (25, "sdz"), (26, "sdaa"), (701, "sdzz"), (702, "sdaaa")];
        for (index, name) in names {
            assert_eq!(letters("sd", index).as_str(), name);
        }
        assert_eq!(letters("sd", u32::MAX).len(), 9);
    }
}
