//! From paths to places, and back.
//!
//! A walk goes component by component, asking each directory's inode; nothing is cached, since every file system here
//! answers from memory. Symlinks are spliced into what is left of the path, at most [`MAX_LINKS`] of them.

use alloc::{sync::Arc, vec::Vec};

use smallvec::SmallVec;

use super::{
    attributes::{FileKind, Permission, permit},
    inode::{Inode, LinkText, Target},
    mount::{self, Location},
};
use crate::{
    errno::{Errno, Result},
    task::{Capability, Credentials, capabilities::CapabilitySet},
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
    /// Where a relative path starts; `None` is the root.
    pub start: Option<Location>,
    /// Who walks.
    pub credentials: &'a Credentials,
    /// What the walk may not do.
    pub limits: Limits,
}

bitflags::bitflags! {
    /// What a walk may not do: `RESOLVE_*` (`linux/openat2.h`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Limits: u8 {
        /// Go from one mount to another.
        const NO_XDEV = 1;
        /// Follow a link that leads somewhere by itself, as those of `/proc` do.
        const NO_MAGICLINKS = 2;
        /// Follow a link.
        const NO_SYMLINKS = 4;
        /// Leave the directory where it starts, which is the root then.
        const BENEATH = 8;
        /// The same, but that `/` and `..` stay there.
        const IN_ROOT = 0x10;
    }
}

impl Limits {
    /// Whether the walk has to stay below where it starts.
    pub const fn is_scoped(self) -> bool {
        self.intersects(Self::BENEATH.union(Self::IN_ROOT))
    }
}

impl Base<'_> {
    /// Where a walk of a relative path starts.
    fn start(&self) -> &Location {
        self.start.as_ref().unwrap_or(&self.root)
    }

    /// Whether a place where a walk has come to lies in the mount where it started, or need not.
    ///
    /// # Errors
    /// `EXDEV`.
    pub fn check_mount(&self, place: &Location) -> Result<()> {
        if self.limits.contains(Limits::NO_XDEV) && place.mount.id() != self.start().mount.id() {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }
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
    let mut walk = Walk::new(base, path)?;
    let (last, target) = walk.run(last_link)?;
    let (name, after) = match last {
        LastName::None => (b"".as_slice(), None),
        _ => split(walk.rest.bytes()),
    };
    Ok(Walked {
        name: Name::from_slice(name),
        last,
        target,
        trailing_slash: after.is_some(),
        directory: walk.here,
    })
}

/// What `path` leads to: [`walk`] for who asks for nothing else.
///
/// # Errors
/// As [`walk`].
pub fn find(base: &Base<'_>, path: &[u8], last_link: LastLink) -> Result<Location> {
    let (_, target) = Walk::new(base, path)?.run(last_link)?;
    target.ok_or(Errno::ENOENT)
}

/// What is left of a path.
enum Rest<'a> {
    /// A part of what was given.
    Given(&'a [u8]),
    /// A symlink's text and what was left behind it, from a position on.
    Spliced(LinkText, usize),
}

impl Rest<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Given(path) => path,
            Self::Spliced(path, at) => &path[*at..],
        }
    }

    /// Passes over the next component and its slashes.
    fn advance(&mut self) {
        let rest = self.bytes();
        let skip = rest.len() - split(rest).1.unwrap_or_default().len();
        match self {
            Self::Given(path) => *path = &path[skip..],
            Self::Spliced(_, at) => *at += skip,
        }
    }
}

/// A walk on its way.
struct Walk<'a> {
    base: &'a Base<'a>,
    /// The directory in which the next name is looked up.
    here: Location,
    rest: Rest<'a>,
    /// Symlinks that were followed.
    links: u32,
}

/// Whether `credentials` may look up names in a directory.
fn may_search(directory: &dyn Inode, credentials: &Credentials) -> Result<()> {
    const SEARCH_ALL: CapabilitySet = CapabilitySet::of(&[Capability::DacOverride, Capability::DacReadSearch]);
    // Who may search all of them: nothing need be known of it.
    if credentials.can_any(SEARCH_ALL) {
        return Ok(());
    }
    permit(&directory.attributes(), credentials, Permission::EXECUTE)
}

impl<'a> Walk<'a> {
    fn new(base: &'a Base<'a>, path: &'a [u8]) -> Result<Self> {
        let first = *path.first().ok_or(Errno::ENOENT)?;
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if first == b'/' && base.limits.contains(Limits::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let start = base.start.as_ref().filter(|_| first != b'/');
        Ok(Self {
            base,
            here: start.unwrap_or(&base.root).clone(),
            rest: Rest::Given(strip_slashes(path)),
            links: 0,
        })
    }

    /// Walks to the end: what the last name is, and what is there. The directory is then `here`, and the name the only one in
    /// `rest`.
    fn run(&mut self, last_link: LastLink) -> Result<(LastName, Option<Location>)> {
        loop {
            let rest = self.rest.bytes();
            if rest.is_empty() {
                return Ok((LastName::None, Some(self.here.clone())));
            }
            let (name, after) = split(rest);
            check_name(name)?;
            if self.here.inode.kind() != FileKind::Directory {
                return Err(Errno::ENOTDIR);
            }
            may_search(&*self.here.inode, self.base.credentials)?;
            let is_last = after.is_none_or(<[u8]>::is_empty);
            let trailing_slash = is_last && after.is_some();
            let (last, found) = match name {
                b"." => (LastName::Dot, self.here.clone()),
                b".." => (LastName::DotDot, self.above()?),
                _ => {
                    let inode = match self.here.inode.lookup(name) {
                        Err(Errno::ENOENT) if is_last => return Ok((LastName::Name, None)),
                        found => found?,
                    };
                    let follow = !is_last || trailing_slash || last_link == LastLink::Follow;
                    if follow && inode.kind() == FileKind::Symlink {
                        self.follow(&*inode, trailing_slash)?;
                        continue;
                    }
                    if !is_last {
                        self.here.inode = inode;
                        self.here.descend();
                        self.rest.advance();
                        continue;
                    }
                    let mut found = Location {
                        mount: self.here.mount.clone(),
                        inode,
                    };
                    found.descend();
                    (LastName::Name, found)
                }
            };
            if is_last {
                if trailing_slash && found.inode.kind() != FileKind::Directory {
                    return Err(Errno::ENOTDIR);
                }
                return Ok((last, Some(found)));
            }
            self.here = found;
            self.rest.advance();
        }
    }

    /// The directory above, which for the root is the root.
    fn above(&self) -> Result<Location> {
        let (base, here) = (self.base, &self.here);
        if here.is_same(&base.root) {
            return if base.limits.contains(Limits::BENEATH) {
                Err(Errno::EXDEV)
            } else {
                Ok(here.clone())
            };
        }
        let above = here.parent();
        base.check_mount(here)?;
        base.check_mount(&above)?;
        if base.limits.is_scoped() && !above.lies_below(&base.root) {
            // Somebody moved it away meanwhile: another try tells.
            return Err(Errno::EAGAIN);
        }
        Ok(above)
    }

    /// Follows a symlink that the next name leads to.
    fn follow(&mut self, link: &dyn Inode, trailing_slash: bool) -> Result<()> {
        let limits = self.base.limits;
        if limits.contains(Limits::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        self.links += 1;
        if self.links > MAX_LINKS || self.here.mount.flags() & linux_raw_sys::general::MS_NOSYMFOLLOW != 0 {
            return Err(Errno::ELOOP);
        }
        if let Some(target) = link.follow() {
            if limits.contains(Limits::NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            if limits.is_scoped() {
                return Err(Errno::EXDEV);
            }
            match target? {
                Target::Location(location) => {
                    self.base.check_mount(&self.here)?;
                    self.base.check_mount(&location)?;
                    self.here = location;
                }
                // It lies in no mount.
                Target::Inode(_) if limits.contains(Limits::NO_XDEV) => return Err(Errno::EXDEV),
                Target::Inode(inode) => self.here.inode = inode,
            }
            if trailing_slash && self.here.inode.kind() != FileKind::Directory {
                return Err(Errno::ENOTDIR);
            }
            self.rest.advance();
            return Ok(());
        }
        let mut spliced = LinkText::new();
        link.read_link(&mut spliced)?;
        if spliced.is_empty() {
            return Err(Errno::ENOENT);
        }
        if spliced[0] == b'/' {
            if limits.contains(Limits::BENEATH) {
                return Err(Errno::EXDEV);
            }
            self.base.check_mount(&self.here)?;
            self.base.check_mount(&self.base.root)?;
            self.here = self.base.root.clone();
        }
        if let Some(after) = split(self.rest.bytes()).1 {
            spliced.push(b'/');
            spliced.extend_from_slice(after);
        }
        if spliced.len() >= 2 * PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let leading = spliced.len() - strip_slashes(&spliced).len();
        self.rest = Rest::Spliced(spliced, leading);
        Ok(())
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
    /// It never had a name, and is called this.
    Nameless(Vec<u8>),
}

impl Named {
    /// As `/proc` shows it.
    pub fn display(self) -> Vec<u8> {
        match self {
            Self::Path(path) | Self::Nameless(path) => path,
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
    if let Some(name) = location.inode.own_name() {
        return Named::Nameless(name.into_bytes());
    }
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

/// The path of an inode from the root of all, by whatever mount its file system has; `None` if it has none.
pub fn inode_path(inode: &Arc<dyn Inode>) -> Option<Vec<u8>> {
    let device = inode.attributes().device;
    let mounts = mount::mounts();
    let root = mounts.iter().find(|mount| mount.covers().is_none())?.root();
    let mount = mounts
        .iter()
        .find(|mount| mount.root().inode.attributes().device == device)?;
    let place = Location {
        mount: mount.clone(),
        inode: inode.clone(),
    };
    Some(path_of(&place, &root).display())
}
