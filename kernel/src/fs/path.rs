//! From paths to places, and back.
//!
//! A walk goes component by component, asking each directory's inode; nothing is cached, since every file system here
//! answers from memory. Symlinks are spliced into what is left of the path, at most [`MAX_LINKS`] of them.

use alloc::{borrow::Cow, sync::Arc, vec::Vec};

use smallvec::SmallVec;

use super::{
    attributes::{FileKind, Permission, permit},
    inode::{Inode, Target},
    mount::{self, Location},
};
use crate::{
    errno::{Errno, Result},
    task::Credentials,
};

/// The longest name (`NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// The longest path, its final zero included (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;
/// How many symlinks one walk follows.
pub const MAX_LINKS: u32 = 40;

/// One name.
pub type Name = SmallVec<[u8; 32]>;

/// Where a walk starts and who walks.
#[derive(Clone)]
pub struct Base<'a> {
    /// What `/` means, and where `..` ends.
    pub root: Location,
    /// Where a relative path starts.
    pub start: Location,
    /// Who walks.
    pub credentials: &'a Credentials,
}

/// What a walk does with a symlink at its end. A slash behind it has it followed in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// It is followed.
    Follow,
    /// It is what was looked for.
    Keep,
}

/// What the last component of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastName {
    /// A name in [`Walked::directory`].
    Name,
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// The path was `/`, or ended in a link that leads somewhere by itself.
    None,
}

/// Where a walk came to.
pub struct Walked {
    /// The directory that holds (or would hold) the last name.
    pub directory: Location,
    /// The last name.
    pub name: Name,
    /// What the last component is.
    pub last: LastName,
    /// What is there; `None` if the last name does not exist.
    pub target: Option<Location>,
    /// Whether a slash follows the last name.
    pub trailing_slash: bool,
}

impl Walked {
    /// What is there.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn existing(self) -> Result<Location> {
        self.target.ok_or(Errno::ENOENT)
    }

    /// Directory and name, to make something there.
    ///
    /// # Errors
    /// `EEXIST` if there is something, or the path ends in `.`, `..` or `/`.
    pub fn vacant(&self) -> Result<(&Location, &[u8])> {
        if self.target.is_some() || self.last != LastName::Name {
            return Err(Errno::EEXIST);
        }
        Ok((&self.directory, &self.name))
    }
}

/// Whether `name` can be a name.
///
/// # Errors
/// `ENAMETOOLONG`.
fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        Err(Errno::ENAMETOOLONG)
    } else {
        Ok(())
    }
}

/// Splits the next component off: the name, and what follows its slashes (`None` if nothing follows at all).
fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|&byte| byte == b'/') {
        None => (path, None),
        Some(at) => (&path[..at], Some(strip_slashes(&path[at..]))),
    }
}

fn strip_slashes(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|&&byte| byte == b'/').count();
    &path[slashes..]
}

/// Walks `path`.
///
/// # Errors
/// `ENOENT` (for an empty path, or a directory on the way), `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`.
pub fn walk(base: &Base<'_>, path: &[u8], last_link: LastLink) -> Result<Walked> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if path.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut here = if path[0] == b'/' {
        base.root.clone()
    } else {
        base.start.clone()
    };
    let mut rest: Cow<'_, [u8]> = Cow::Borrowed(strip_slashes(path));
    let mut links = 0;
    loop {
        if rest.is_empty() {
            return Ok(Walked {
                directory: here.clone(),
                name: Name::new(),
                last: LastName::None,
                target: Some(here),
                trailing_slash: false,
            });
        }
        let (name, after) = split(&rest);
        check_name(name)?;
        if here.inode.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        permit(&here.inode.attributes(), base.credentials, Permission::EXECUTE)?;
        let is_last = after.is_none_or(<[u8]>::is_empty);
        let trailing_slash = is_last && after.is_some();
        let (last, found) = match name {
            b"." => (LastName::Dot, Some(here.clone())),
            b".." => (
                LastName::DotDot,
                Some(if here.is_same(&base.root) {
                    here.clone()
                } else {
                    here.parent()
                }),
            ),
            _ => (LastName::Name, lookup(&here, name)?),
        };
        let found = match found {
            Some(found) => found,
            None if is_last => {
                return Ok(Walked {
                    name: Name::from_slice(name),
                    directory: here,
                    last,
                    target: None,
                    trailing_slash,
                });
            }
            None => return Err(Errno::ENOENT),
        };
        let follow = !is_last || trailing_slash || last_link == LastLink::Follow;
        if found.inode.kind() == FileKind::Symlink && follow {
            links += 1;
            if links > MAX_LINKS || found.mount.flags() & linux_raw_sys::general::MS_NOSYMFOLLOW != 0 {
                return Err(Errno::ELOOP);
            }
            if let Some(target) = found.inode.follow() {
                here = match target? {
                    Target::Location(location) => location,
                    Target::Inode(inode) => Location {
                        mount: found.mount.clone(),
                        inode,
                    },
                };
                if trailing_slash && here.inode.kind() != FileKind::Directory {
                    return Err(Errno::ENOTDIR);
                }
                rest = Cow::Owned(after.unwrap_or_default().to_vec());
                continue;
            }
            let mut spliced = found.inode.read_link()?;
            if spliced.is_empty() {
                return Err(Errno::ENOENT);
            }
            if spliced[0] == b'/' {
                here = base.root.clone();
            }
            if let Some(after) = after {
                spliced.push(b'/');
                spliced.extend_from_slice(after);
            }
            if spliced.len() >= 2 * PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            let leading = spliced.len() - strip_slashes(&spliced).len();
            spliced.drain(..leading);
            rest = Cow::Owned(spliced);
            continue;
        }
        if is_last {
            if trailing_slash && found.inode.kind() != FileKind::Directory {
                return Err(Errno::ENOTDIR);
            }
            return Ok(Walked {
                name: Name::from_slice(name),
                directory: here,
                last,
                target: Some(found),
                trailing_slash,
            });
        }
        let after = after.unwrap_or_default();
        let skip = rest.len() - after.len();
        here = found;
        rest = match rest {
            Cow::Borrowed(path) => Cow::Borrowed(&path[skip..]),
            Cow::Owned(mut path) => {
                path.drain(..skip);
                Cow::Owned(path)
            }
        };
    }
}

fn lookup(directory: &Location, name: &[u8]) -> Result<Option<Location>> {
    match directory.inode.lookup(name) {
        Ok(inode) => Ok(Some(
            Location {
                mount: directory.mount.clone(),
                inode,
            }
            .descend(),
        )),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// How a place is named from `root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By this absolute path.
    Path(Vec<u8>),
    /// It has no name any more; this was a part of it.
    Deleted(Vec<u8>),
    /// It lies outside `root`.
    Unreachable(Vec<u8>),
}

impl Named {
    /// As `/proc` shows it.
    pub fn display(self) -> Vec<u8> {
        match self {
            Self::Path(path) => path,
            Self::Deleted(mut path) => {
                path.extend_from_slice(b" (deleted)");
                path
            }
            Self::Unreachable(path) => [b"(unreachable)".as_slice(), &path].concat(),
        }
    }
}

/// The path of a place.
pub fn path_of(location: &Location, root: &Location) -> Named {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut here = location.clone();
    let join = |names: &[Vec<u8>]| {
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    };
    loop {
        if here.is_same(root) {
            return Named::Path(join(&names));
        }
        if here.is_mount_root() {
            match here.mount.covers().cloned() {
                Some(covered) => here = covered,
                None => return Named::Unreachable(join(&names)),
            }
            continue;
        }
        match here.inode.place() {
            Some((inode, name)) => {
                names.push(name);
                here = Location {
                    mount: here.mount,
                    inode,
                };
            }
            None => return Named::Deleted(join(&names)),
        }
    }
}

/// The path of an inode from the root of all, by whatever mount its file system has.
pub fn inode_path(inode: &Arc<dyn Inode>) -> Vec<u8> {
    let device = inode.attributes().device;
    let mounts = mount::mounts();
    let Some(root) = mounts
        .iter()
        .find(|mount| mount.covers().is_none())
        .map(mount::Mount::root)
    else {
        return Vec::new();
    };
    match mounts
        .iter()
        .find(|mount| mount.root().inode.attributes().device == device)
    {
        Some(mount) => path_of(
            &Location {
                mount: mount.clone(),
                inode: inode.clone(),
            },
            &root,
        )
        .display(),
        None => Named::Deleted(b"/memfd:".to_vec()).display(),
    }
}
