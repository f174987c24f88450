//! `scripts/image`: makes one image that boots wherever UEFI does.

use super::config::{self, Config};
use super::gpt::ROOT_LABEL;
use super::{Contents, EspFile, Layout, hdd, read};
use crate::arch::Arch;
use crate::machine::{Boot, Root};
use crate::project::{self, Profile};
use crate::{image, initramfs};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What goes into an image besides kernel and initramfs.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Build with assertions
    #[arg(long)]
    pub debug: bool,
    /// A second partition with this root file system, read-only
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// A second partition with the files that the initramfs would have: the kernel's root, read-only
    #[arg(long, conflicts_with = "root")]
    pub disk_root: bool,
    /// This UEFI program in the place of our own loader
    #[arg(long, value_name = "FILE")]
    pub loader: Option<PathBuf>,
    /// Words for the kernel's command line
    #[arg(last = true)]
    pub words: Vec<String>,
}

/// `image`.
#[derive(Args, Debug)]
pub struct Image {
    /// Architecture; the host's if left out
    arch: Option<Arch>,
    /// The image; target/image/<arch>.img if left out
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also make a disk for Parallels, a directory NAME.hdd beside the image
    #[arg(long)]
    hdd: bool,
    #[command(flatten)]
    options: Options,
}

/// An image that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its file.
    pub path: PathBuf,
    /// Its layout.
    pub layout: Layout,
    /// The kernel that is in it.
    pub boot: Boot,
}

impl Image {
    /// Makes the image and prints where it is.
    ///
    /// # Errors
    /// A build failed, or a file cannot be read or written.
    pub fn main(self) -> Result<ExitCode> {
        let arch = self.arch.unwrap_or_else(Arch::host);
        let out = self.out.unwrap_or_else(|| default_path(arch, self.options.debug));
        let made = make(arch, &self.options, &out)?;
        println!("{} build {}", arch.name(), made.boot.build_id);
        println!("{} {} MiB", made.path.display(), made.layout.bytes() >> 20);
        if self.hdd {
            let bundle = made.path.with_extension("hdd");
            hdd::create(&bundle, &made.path, made.layout.identifier("hdd"))?;
            println!("{}", bundle.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where an image goes that nobody named.
pub fn default_path(arch: Arch, debug: bool) -> PathBuf {
    let suffix = if debug { "-debug" } else { "" };
    project::target_dir()
        .join("image")
        .join(format!("{}{suffix}.img", arch.name()))
}

/// Builds everything and writes the image to `out`.
///
/// # Errors
/// A build failed, or a file cannot be read or written.
pub fn make(arch: Arch, options: &Options, out: &Path) -> Result<Made> {
    let profile = if options.debug {
        Profile::Debug
    } else {
        Profile::Release
    };
    let boot = Boot::build(arch, profile)?;
    let loader = match &options.loader {
        Some(loader) => loader.clone(),
        None => project::build_loader(arch, &boot.build_id)?,
    };
    let root = if options.disk_root {
        Root::Partition
    } else {
        Root::Initramfs
    };
    let (files, made) = files(&boot, &loader, &options.words.join(" "), root)?;
    let layout = write(files, options.root.as_deref().or(made.as_deref()), out)?;
    let written = read::build_id(out)?;
    ensure!(
        written == boot.build_id,
        "{} reads back as build {written}",
        out.display()
    );
    Ok(Made {
        path: out.to_owned(),
        layout,
        boot,
    })
}

/// The EFI System Partition's files, and the archive for the second one, if that is to be the `root`.
///
/// # Errors
/// One cannot be read, or the command line has more than one line.
pub fn files(boot: &Boot, loader: &Path, command_line: &str, root: Root) -> Result<(Vec<EspFile>, Option<PathBuf>)> {
    let (archive, initramfs, cmdline) = match root {
        Root::Initramfs => (None, boot.initramfs.clone(), command_line.to_owned()),
        Root::Partition => {
            let (archive, symbols) = initramfs::build_for_disk(boot.arch, &boot.elf, boot.tree.as_deref())?;
            let named = format!("root=PARTLABEL={ROOT_LABEL} {command_line}");
            (Some(archive), symbols, named.trim_end().to_owned())
        }
    };
    let config = Config {
        build: boot.build_id.clone(),
        cmdline,
    };
    let file = |path: &str, from: &Path| -> Result<EspFile> {
        Ok(EspFile {
            path: path.to_owned(),
            data: fs::read(from).with_context(|| format!("cannot read {}", from.display()))?,
        })
    };
    let files = vec![
        file(boot.arch.uefi_path(), loader)?,
        EspFile {
            path: config::PATH.to_owned(),
            data: config.text()?.into_bytes(),
        },
        EspFile {
            path: config::KERNEL.to_owned(),
            data: image::strip(&fs::read(&boot.elf)?)?,
        },
        file(config::INITRAMFS, &initramfs)?,
    ];
    Ok((files, archive))
}

/// Writes an image beside `out` and renames it, so that `out` is whole or as it was.
///
/// # Errors
/// The contents make no image, or a file cannot be read or written.
pub fn write(files: Vec<EspFile>, root: Option<&Path>, out: &Path) -> Result<Layout> {
    let open = |path: &Path| File::open(path).with_context(|| format!("cannot read {}", path.display()));
    let root = root.map(open).transpose()?;
    let mut contents = Contents { files, root };
    let layout = super::plan(&mut contents)?;
    if let Some(directory) = out.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let temporary = out.with_extension(format!("new{}", std::process::id()));
    let written = fill(&temporary, &layout, &mut contents)
        .and_then(|()| Ok(fs::rename(&temporary, out)?))
        .with_context(|| format!("cannot write {}", out.display()));
    if written.is_err() {
        // It is not there if it could not be made.
        let _ = fs::remove_file(&temporary);
    }
    written.map(|()| layout)
}

fn fill(path: &Path, layout: &Layout, contents: &mut Contents<File>) -> Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_len(layout.bytes())?;
    super::write(&mut file, layout, contents)
}
