//! The suite of a guest with a screen: firmware sets it up, and what the console says must stand on it, pixel by pixel. What is
//! typed at its keyboards, of every kind, must come to the same console.

mod keyboard;
mod picture;

use self::keyboard::Keyboard;
use self::picture::{Colours, Picture};
use super::Tally;
use crate::arch::Arch;
use crate::console::{Console, LIMIT};
use crate::machine::{Boot, Machine, Root};
use crate::project::{self, Profile};
use crate::uefi::{Controller, UefiDisk};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// What the shell is told: text in places and colours of its own, then it waits.
const COMMAND: &[&str] = &[
    r"printf '\033[2J\033[H'; stty size; ",
    r"printf 'plain \033[31mred \033[1;37;44mbright on blue\033[0m and plain\r\n'; ",
    r"printf 'one\r\ntwo\r\nthree\033[2A\033[L\033[4;10H\033[38;2;1;200;99mexact\033[m'; ",
    r"printf '\033[?25l\033[9;1H'; echo 'sh''own'; read x; printf '\033[?25h\n'",
    "\n",
];
/// What the shell's prompt is, and what its line editor asks before it reads.
const PROMPT: [&str; 2] = ["~ # ", "\x1b[6n"];

const RED: Colours = Colours {
    ink: [0xaa, 0, 0],
    paper: [0; 3],
};
const BRIGHT_ON_BLUE: Colours = Colours {
    ink: [0xff; 3],
    paper: [0, 0, 0xaa],
};
const EXACT: Colours = Colours {
    ink: [1, 200, 99],
    paper: [0; 3],
};
const PANIC: Colours = Colours {
    ink: [0xff; 3],
    paper: [0x70, 0, 0],
};

type Check = fn(&mut Guest) -> Result<()>;

/// A boot with a screen and a USB keyboard: the kernel's messages, a program's text, keys, a panic. And one for each other keyboard.
pub fn all(arch: Arch) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Debug)?;
    let mut tally = Tally::default();
    let checks: [(&str, Check); 5] = [
        ("messages", the_log_is_shown_from_its_beginning),
        ("text", text_is_where_it_was_put),
        ("USB keyboard", keyboard::types),
        ("another in its place", keyboard::comes_and_goes),
        ("panic", a_panic_is_shown_and_stays),
    ];
    let usb = Keyboard {
        slug: "usb",
        devices: &["qemu-xhci", "usb-kbd,id=keyboard"],
        message: keyboard::USB,
        repeats: true,
    };
    try_all(&boot, usb, &checks, &mut tally)?;
    for (name, keyboard) in keyboard::others(arch) {
        let checks: [(&str, Check); 2] = [("shell", Guest::ready), (name, keyboard::types)];
        try_all(&boot, keyboard, &checks, &mut tally)?;
    }
    Ok(tally)
}

/// Boots a guest with this keyboard and makes the checks, until one fails.
fn try_all(boot: &Boot, keyboard: Keyboard, checks: &[(&str, Check)], tally: &mut Tally) -> Result<()> {
    let machine = machine(boot, &keyboard)?;
    let mut guest = Guest {
        console: Console::boot(&machine, boot)?,
        pictures: directory()?,
        arch: boot.arch,
        keyboard,
    };
    for (name, check) in checks {
        let started = Instant::now();
        let result = check(&mut guest);
        tally.add(&Tally::of(result.is_ok()));
        match result {
            Ok(()) => println!("{name}: ok ({} ms)", started.elapsed().as_millis()),
            Err(error) => {
                println!("{}\n---- {name}: FAILED: {error:#}", guest.console.autopsy());
                break;
            }
        }
    }
    Ok(())
}

/// A machine with a screen that firmware finds. Nobody waits for its status, so that a panic stays to be read.
fn machine(boot: &Boot, keyboard: &Keyboard) -> Result<Machine> {
    let mut machine = Machine {
        screen: true,
        devices: keyboard
            .devices
            .iter()
            .flat_map(|device| ["-device".to_owned(), (*device).to_owned()])
            .collect(),
        cpus: 2,
        gic: 3,
        ..Machine::default()
    };
    let disk = match boot.arch {
        Arch::Aarch64 => Controller::Virtio,
        Arch::X86_64 => Controller::Nvme,
    };
    let image = directory()?.join(format!("{}-screen.img", boot.arch.name()));
    // A guest that was let go still reads it for a moment.
    let _ = fs::remove_file(&image);
    machine.uefi = Some(UefiDisk::make(boot, "", Root::Initramfs, disk, image)?);
    Ok(machine)
}

fn directory() -> Result<PathBuf> {
    let directory = project::target_dir().join("test");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

struct Guest {
    console: Console,
    pictures: PathBuf,
    arch: Arch,
    keyboard: Keyboard,
}

impl Guest {
    /// Takes pictures until one is as `check` wants it; the last is kept.
    fn picture(&self, name: &str, check: impl Fn(&Picture) -> Result<()>) -> Result<()> {
        let path = self.pictures.join(format!("{}-screen-{name}.ppm", self.arch.name()));
        let deadline = Instant::now() + LIMIT;
        loop {
            let result = self.dump(&path).and_then(|picture| check(&picture));
            if result.is_ok() || Instant::now() > deadline {
                return result.with_context(|| format!("the screen in {}", path.display()));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for the shell and for the keyboard, in whatever order they come; the shell has the last word.
    fn ready(&mut self) -> Result<()> {
        self.prompt()?;
        self.console.expect_ever(self.keyboard.message)?;
        self.console.send("echo rea''dy\n")?;
        self.console.expect("\nready\n")?;
        self.prompt()
    }

    fn prompt(&mut self) -> Result<()> {
        PROMPT.iter().try_for_each(|text| self.console.expect(text).map(drop))
    }

    fn dump(&self, path: &Path) -> Result<Picture> {
        self.console.screendump(path)?;
        Picture::read(&fs::read(path)?)
    }
}

fn the_log_is_shown_from_its_beginning(guest: &mut Guest) -> Result<()> {
    guest.ready()?;
    let banner = format!(" build {} on ", guest.console.build_id());
    guest.picture("messages", |picture| {
        let rows = picture.rows(Colours::PLAIN);
        ensure!(
            rows.first().is_some_and(|row| row.contains("Breenix")) && rows.concat().contains(&banner),
            "the first message is not where it should be: {rows:#?}"
        );
        let prompt = rows.iter().rfind(|row| !row.is_empty()).context("an empty screen")?;
        // Behind it stands the cursor.
        ensure!(prompt == "~ # \u{fffd}", "no prompt at the end: {prompt:?}");
        Ok(())
    })
}

fn text_is_where_it_was_put(guest: &mut Guest) -> Result<()> {
    guest.console.send(&COMMAND.concat())?;
    guest.console.expect("shown")?;
    guest.picture("text", |picture| {
        let (rows, columns) = picture.size();
        let size = format!("{rows} {columns}");
        let plain = Colours::PLAIN;
        let expected: [&[(&str, Colours)]; 6] = [
            &[(&size, plain)],
            &[
                ("plain ", plain),
                ("red ", RED),
                ("bright on blue", BRIGHT_ON_BLUE),
                (" and plain", plain),
            ],
            &[],
            &[("one      ", plain), ("exact", EXACT)],
            &[("two", plain)],
            &[("three", plain)],
        ];
        for row in 0..rows {
            match (expected.get(row), row) {
                (Some(pieces), _) => picture.check_row(row, pieces)?,
                (None, 8) => picture.check_row(row, &[("shown", plain)])?,
                (None, _) => picture.check_row(row, &[])?,
            }
        }
        Ok(())
    })?;
    guest.console.send("\n")?;
    guest.prompt()
}

fn a_panic_is_shown_and_stays(guest: &mut Guest) -> Result<()> {
    guest.console.send("echo c >/proc/sysrq-trigger\n")?;
    guest.console.expect("kernel panic at ")?;
    guest.picture("panic", |picture| {
        let rows = picture.rows(PANIC);
        let Some(at) = rows
            .iter()
            .position(|row| row.starts_with("kernel panic at kernel/src/crash.rs:"))
        else {
            bail!("no panic on the screen: {rows:#?}");
        };
        ensure!(
            rows[at..].iter().any(|row| row.contains("kernel::crash::panic"))
                && rows.iter().all(|row| !row.contains('\u{fffd}')),
            "half a report: {rows:#?}"
        );
        Ok(())
    })
}
