//! Tells when a file of configuration changed: written in place, replaced by a rename, or reached through a symbolic link
//! that was swapped (a Kubernetes volume swaps `..data`).
//!
//! Owns: which directories have to be watched for that, and telling a change from noise. Does not own: reading the file.
//! A change is told once the writer has closed the file, so that a half-written file is not seen.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;

use crate::sys;

/// What happens in a directory that may be a change of a file.
const EVENTS: u32 = libc::IN_CLOSE_WRITE
    | libc::IN_MOVED_TO
    | libc::IN_MOVED_FROM
    | libc::IN_CREATE
    | libc::IN_DELETE
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR;
/// Links followed before a path counts as a loop (the kernel's limit, too).
const MOST_LINKS: usize = 40;
/// Bytes of events read at once.
const EVENT_BUFFER: usize = 16 * 1024;
/// Bytes of `struct inotify_event` before the name.
const EVENT_HEAD: usize = 16;

/// Names a watched file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(u64);

/// Watches files; one inotify instance for all of them. Belongs to the runtime that it was made in.
pub struct Watcher {
    inotify: AsyncFd<OwnedFd>,
    files: HashMap<WatchId, Watched>,
    /// Directory, as it was added, to its watch descriptor.
    directories: HashMap<PathBuf, i32>,
    next: u64,
}

struct Watched {
    path: PathBuf,
    identity: Option<Identity>,
}

/// What makes a file another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Some(Identity { device: found.dev(), inode: found.ino(), size: found.size(), modified })
    }
}

impl Watcher {
    /// Watches nothing yet. Fails where the limit of inotify instances is reached (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        Ok(Watcher { inotify: sys::inotify()?, files: HashMap::new(), directories: HashMap::new(), next: 0 })
    }

    /// Watches a file, or a directory as a whole (`watched_directory`: a change is then one of its own links, not of a file
    /// in it). It need not exist yet. Fails where the limit of watches is reached (`fs.inotify.max_user_watches`).
    pub fn add(&mut self, path: &Path) -> io::Result<WatchId> {
        let path = std::path::absolute(path)?;
        let id = WatchId(self.next);
        self.next += 1;
        self.watch_way(&path)?;
        // After the watches are in place, so that no change falls between.
        let identity = Identity::of(&path);
        self.files.insert(id, Watched { path, identity });
        Ok(id)
    }

    /// Stops watching.
    pub fn remove(&mut self, id: WatchId) {
        self.files.remove(&id);
        // An error is of no use here: a watch too many does no harm.
        let _ = self.renew();
    }

    /// The files that changed since they were added or last told. A file that went away is told once it is back. Cancel
    /// safe. An error means that changes are not seen any more.
    pub async fn changed(&mut self) -> io::Result<Vec<WatchId>> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// As [`Watcher::changed`].
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<WatchId>>> {
        loop {
            let mut guard = ready!(self.inotify.poll_read_ready(cx))?;
            let mut buffer = [0; EVENT_BUFFER];
            let count = match guard.try_io(|fd| sys::read(fd.as_fd(), &mut buffer)) {
                Ok(Ok(count)) => count,
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => continue,
            };
            let only_created = self.note(&buffer[..count]);
            let mut changed = self.compare(only_created);
            if self.renew()? {
                // What happened in a new directory before it was watched will not be told any more.
                changed.extend(self.compare(false));
            }
            if !changed.is_empty() {
                return Poll::Ready(Ok(changed));
            }
        }
    }

    /// Reads events; forgets directories that are gone. True if all that happened is that names were created.
    fn note(&mut self, mut events: &[u8]) -> bool {
        let mut only_created = true;
        while let Some((head, rest)) = events.split_at_checked(EVENT_HEAD) {
            let word = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
            let (descriptor, mask, name) = (word(0).cast_signed(), word(4), word(12) as usize);
            only_created &= mask & libc::IN_CREATE != 0;
            if mask & (libc::IN_IGNORED | libc::IN_MOVE_SELF) != 0 {
                self.directories.retain(|_, known| *known != descriptor);
            }
            if mask & libc::IN_MOVE_SELF != 0 {
                let _ = sys::inotify_remove(self.inotify.as_fd(), descriptor);
            }
            events = rest.get(name..).unwrap_or_default();
        }
        only_created
    }

    fn compare(&mut self, only_created: bool) -> Vec<WatchId> {
        let mut changed = Vec::new();
        for (id, file) in &mut self.files {
            let identity = Identity::of(&file.path);
            if identity.is_none() || identity == file.identity || (only_created && being_written(&file.path)) {
                continue;
            }
            file.identity = identity;
            changed.push(*id);
        }
        changed.sort_unstable();
        changed
    }

    /// Watches what the files need now, and nothing else: a swapped link leads elsewhere. True if a directory was added.
    fn renew(&mut self) -> io::Result<bool> {
        let before: HashSet<i32> = self.directories.values().copied().collect();
        let paths: Vec<PathBuf> = self.files.values().map(|file| file.path.clone()).collect();
        let mut needed = HashSet::new();
        for path in &paths {
            needed.extend(self.watch_way(path)?);
        }
        let inotify = self.inotify.as_fd();
        let kept: HashSet<i32> =
            self.directories.iter().filter(|(path, _)| needed.contains(*path)).map(|(_, known)| *known).collect();
        self.directories.retain(|path, known| {
            let keep = needed.contains(path);
            if !keep && !kept.contains(known) {
                let _ = sys::inotify_remove(inotify, *known);
            }
            keep
        });
        Ok(self.directories.values().any(|known| !before.contains(known)))
    }

    /// Watches every directory in which a change of name may make `path` another file.
    fn watch_way(&mut self, path: &Path) -> io::Result<HashSet<PathBuf>> {
        let mut needed = HashSet::new();
        for directory in directories(path) {
            if let Some(watched) = self.watch_directory(&directory)? {
                needed.insert(watched);
            }
        }
        Ok(needed)
    }

    /// Watches a directory; if there is none, the nearest one above it in which it may appear.
    fn watch_directory(&mut self, directory: &Path) -> io::Result<Option<PathBuf>> {
        for candidate in directory.ancestors() {
            let Ok(name) = CString::new(candidate.as_os_str().as_bytes()) else { return Ok(None) };
            match sys::inotify_add(self.inotify.as_fd(), &name, EVENTS) {
                Ok(descriptor) => {
                    self.directories.insert(candidate.to_owned(), descriptor);
                    return Ok(Some(candidate.to_owned()));
                }
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}

/// A new file of its own name is being written, and will be told when it is closed. A new link is complete at once.
fn being_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.nlink() == 1)
}

/// The directory of `path`, and of every link on the way to it.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut left: Vec<PathBuf> = parts(path);
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == Path::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        match fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                found.push(at.clone());
                if target.is_absolute() {
                    at = PathBuf::new();
                }
                left.extend(parts(&target));
            }
            _ => at = next,
        }
    }
    found.extend(at.parent().map(Path::to_owned));
    found.dedup();
    found
}

/// The components of a path, the first one last.
fn parts(path: &Path) -> Vec<PathBuf> {
    let useful = path.components().filter(|component| !matches!(component, Component::CurDir));
    useful.rev().map(|component| PathBuf::from(component.as_os_str())).collect()
}
