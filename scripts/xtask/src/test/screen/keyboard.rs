//! Keys of every keyboard that QEMU has, pressed by its monitor.

use super::Guest;
use super::picture::Colours;
use crate::arch::Arch;
use anyhow::{Result, ensure};

/// What the kernel says of one keyboard on USB.
pub const USB: &str = "1 keyboard(s)";

/// A keyboard of a guest.
pub struct Keyboard {
    /// Its name in those of files.
    pub slug: &'static str,
    /// What of it QEMU is told.
    pub devices: &'static [&'static str],
    /// What the kernel says once it has it.
    pub message: &'static str,
    /// A held key is typed again and again: emulated PS/2 keyboards leave that to the hand on the real one.
    pub repeats: bool,
}

/// The keyboards beside the USB one at QEMU's own controller, with their names.
pub fn others(arch: Arch) -> Vec<(&'static str, Keyboard)> {
    let mut all = vec![
        (
            "USB keyboard at NEC's controller",
            Keyboard {
                slug: "nec",
                // As Parallels has it: MSI alone. A tablet beside the keyboard is left alone.
                devices: &["nec-usb-xhci,msix=off", "usb-tablet", "usb-kbd"],
                message: USB,
                repeats: true,
            },
        ),
        (
            "virtio keyboard",
            Keyboard {
                slug: "virtio",
                devices: &["virtio-keyboard-pci"],
                message: "a virtio keyboard",
                repeats: true,
            },
        ),
    ];
    if arch == Arch::X86_64 {
        let ps2 = Keyboard {
            slug: "ps2",
            devices: &[],
            message: "a PS/2 keyboard",
            repeats: false,
        };
        all.push(("PS/2 keyboard", ps2));
    }
    all
}

/// What is typed, with its Enter: letters, digits and symbols with and without Shift. And what comes of it.
const LINE: &str = "printf '\\033[H\\033[2J'; echo \"KEYS {$((6*7))}\" '~!@#%^&_+|:<>?[];,./=-`'";
const PRINTED: &str = "KEYS {42} ~!@#%^&_+|:<>?[];,./=-`";

/// Types a line and edits another; the console and the screen say what they should.
pub fn types(guest: &mut Guest) -> Result<()> {
    type_in(guest, LINE)?;
    guest.press(&["ret"])?;
    guest.console.expect(PRINTED)?;
    guest.prompt()?;
    let name = format!("keys-{}", guest.keyboard.slug);
    guest.picture(&name, |picture| {
        let rows = picture.rows(Colours::PLAIN);
        ensure!(rows[0] == PRINTED, "not what was typed: {rows:#?}");
        Ok(())
    })?;
    // A program that reads on until Ctrl+C; the cursor keys; an earlier line.
    type_in(guest, "cat")?;
    guest.press(&["ret"])?;
    type_in(guest, "read")?;
    guest.press(&["ctrl", "c"])?;
    guest.console.expect("^C")?;
    guest.prompt()?;
    type_in(guest, "exho")?;
    for keys in [&["left"][..], &["left"], &["backspace"]] {
        guest.press(keys)?;
    }
    guest.press(&["c"])?;
    guest.press(&["end"])?;
    for key in ["spc", "a", "b", "home", "delete", "e", "ret"] {
        guest.press(&[key])?;
    }
    guest.console.expect("\nab\n")?;
    guest.prompt()?;
    if guest.keyboard.repeats {
        guest.console.monitor()?.hold("x", true)?;
        guest.console.expect("xxxx")?;
        guest.console.monitor()?.hold("x", false)?;
        guest.press(&["ctrl", "u"])?;
        guest.press(&["ret"])?;
        guest.prompt()?;
    }
    Ok(())
}

impl Guest {
    /// Presses keys together. The monitor takes one connection at a time, so that none is kept.
    fn press(&self, keys: &[&str]) -> Result<()> {
        self.console.monitor()?.press(keys)
    }
}

/// The keyboard goes while a key is held, and another comes.
pub fn comes_and_goes(guest: &mut Guest) -> Result<()> {
    guest.console.monitor()?.hold("z", true)?;
    guest.console.expect("zz")?;
    guest.console.monitor()?.command("device_del keyboard")?;
    guest.console.expect(": gone")?;
    guest.console.monitor()?.command("device_add usb-kbd,id=keyboard")?;
    guest.console.expect(USB)?;
    guest.press(&["ctrl", "u"])?;
    type_in(guest, "echo again")?;
    guest.press(&["ret"])?;
    guest.console.expect("\nagain\n")?;
    guest.prompt()
}

/// Types, each character after the one before has been echoed: keyboards remember few keys that nobody has taken.
fn type_in(guest: &mut Guest, text: &str) -> Result<()> {
    for character in text.chars() {
        let (key, shifted) = key(character);
        if shifted {
            guest.press(&["shift", &key])?;
        } else {
            guest.press(&[&key])?;
        }
        guest.console.expect(character.encode_utf8(&mut [0; 4]))?;
    }
    Ok(())
}

/// QEMU's name of the key that types a character on a keyboard of the United States, and whether with Shift.
fn key(character: char) -> (String, bool) {
    const NAMES: [(char, char, &str); 21] = [
        ('1', '!', "1"),
        ('2', '@', "2"),
        ('3', '#', "3"),
        ('4', '$', "4"),
        ('5', '%', "5"),
        ('6', '^', "6"),
        ('7', '&', "7"),
        ('8', '*', "8"),
        ('9', '(', "9"),
        ('0', ')', "0"),
        ('-', '_', "minus"),
        ('=', '+', "equal"),
        ('[', '{', "bracket_left"),
        (']', '}', "bracket_right"),
        (';', ':', "semicolon"),
        ('\'', '"', "apostrophe"),
        ('`', '~', "grave_accent"),
        ('\\', '|', "backslash"),
        (',', '<', "comma"),
        ('.', '>', "dot"),
        ('/', '?', "slash"),
    ];
    if let Some((_, shifted, name)) = NAMES
        .iter()
        .find(|(plain, shifted, _)| [*plain, *shifted].contains(&character))
    {
        return ((*name).to_owned(), *shifted == character);
    }
    match character {
        ' ' => ("spc".to_owned(), false),
        letter => (letter.to_ascii_lowercase().to_string(), letter.is_ascii_uppercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_keys() {
        for (character, name, shifted) in [
            ('a', "a", false),
            ('A', "a", true),
            ('*', "8", true),
            ('\\', "backslash", false),
        ] {
            assert_eq!(key(character), (name.to_owned(), shifted));
        }
    }

    #[test]
    fn usb_keyboards_have_a_controller() {
        for arch in Arch::ALL {
            for (_, keyboard) in others(arch) {
                let controller = keyboard.devices.iter().position(|device| device.contains("xhci"));
                let usb = keyboard.devices.iter().position(|device| device.starts_with("usb-kbd"));
                assert_eq!(usb.is_some(), controller.is_some());
                assert!(controller <= usb);
            }
        }
    }
}
