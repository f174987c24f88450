//! Sockets that hold each other: each waits in a message in another of them, and nobody can come by one any more.
//!
//! A socket on its way that is referred to by messages alone is a *candidate*. What refers to a candidate, other than
//! messages in candidates' inboxes, makes it live, and with it what waits in its inbox. The rest is garbage, and its inboxes
//! are emptied.
//!
//! Nothing stands still meanwhile: counts and inboxes are looked at one after the other. So what looks like garbage is looked
//! at again: if first each is referred to by messages in the others and nothing else, and then in none of their inboxes
//! files have come, gone or been looked at since they were counted, it is garbage. For whoever would have had one between the
//! first look and the second had it from an inbox among them, and whoever reached that had come by one before. Garbage
//! stays garbage, so what fails the second look counts as live, and the rest is looked at once more.
//!
//! The task runs whenever a socket is closed while sockets are on their way. It takes a few steps at a time.

use ::core::{
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::Poll,
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use futures_util::task::AtomicWaker;

use super::{
    Socket,
    core::Core,
    rights::{self, Pending},
};
use crate::{
    errno::Result,
    fs::OpenFile,
    mm::fallible::{TryRoom, afford},
    rt,
};

static WANTED: AtomicBool = AtomicBool::new(false);
static TASK: AtomicWaker = AtomicWaker::new();

/// There may be garbage, or files to let go.
pub(super) fn wake() {
    WANTED.store(true, SeqCst);
    TASK.wake();
}

/// The task. Never ends.
pub async fn run() {
    loop {
        poll_fn(|context| {
            TASK.register(context.waker());
            if WANTED.swap(false, SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        if pass().await.is_err() {
            log::warn!("no memory to look for sockets that hold each other");
        }
    }
}

/// Lets go of what was left to the task, and looks for garbage once. What a dropped pass has not done the next one does.
///
/// # Errors
/// `ENOMEM`.
pub(super) async fn pass() -> Result<()> {
    let mut pending = Pending::left();
    while pending.step() {
        rt::yield_now().await;
    }
    if rights::has_sockets() {
        collect().await?;
    }
    Ok(())
}

/// A candidate.
struct Vertex {
    file: Arc<OpenFile>,
    /// The inboxes that are its own, and how often files had come or gone as they were looked at.
    inboxes: Vec<(Arc<Core>, usize)>,
    /// What waits in them, by number.
    holds: Vec<u64>,
    /// How many messages in candidates' inboxes have it.
    held: usize,
    live: bool,
    /// Whether what it holds is known to be live as well.
    marked: bool,
}

impl Vertex {
    fn socket(&self) -> Option<&Socket> {
        self.file.socket()
    }

    /// Whether messages alone refer to it, and the vertex.
    fn is_candidate(&self) -> bool {
        let in_flight = self.socket().map_or(0, |socket| socket.in_flight.load(SeqCst));
        Arc::strong_count(&self.file) == in_flight + 1
    }

    /// Whether all that has it are messages in candidates' inboxes.
    fn is_held_by_candidates(&self) -> bool {
        Arc::strong_count(&self.file) == self.held + 1
    }

    fn is_unchanged(&self) -> bool {
        self.inboxes.iter().all(|(core, changes)| core.changes() == *changes)
    }
}

/// Bytes that an entry of the graph takes, a half of a node's room left unused.
const ENTRY: usize = 2 * size_of::<(u64, Vertex)>();

type Graph = BTreeMap<u64, Vertex>;

/// Sockets that are done with at a time.
const AT_ONCE: usize = 16;

/// Looks for garbage once, and empties its inboxes; how many sockets that were.
///
/// # Errors
/// `ENOMEM`.
pub async fn collect() -> Result<usize> {
    let mut graph = candidates().await?;
    let mut numbers: Vec<u64> = Vec::new();
    numbers.try_room(graph.len())?;
    numbers.extend(graph.keys());
    for number in &numbers {
        if let Some(vertex) = graph.get_mut(number) {
            vertex.live = !look_into(vertex)?;
        }
        rt::yield_now().await;
    }
    count(&mut graph, &numbers).await;
    let roots = numbers.iter().filter(|number| {
        let vertex = &graph[number];
        vertex.live || !vertex.is_held_by_candidates()
    });
    let roots: Vec<u64> = roots.copied().collect();
    mark(&mut graph, roots).await?;
    loop {
        let suspects: Vec<u64> = graph
            .iter()
            .filter(|(_, vertex)| !vertex.live)
            .map(|(number, _)| *number)
            .collect();
        // The order of the two looks is what the module's reasoning rests on.
        let mut failed: Vec<u64> = Vec::new();
        for number in &suspects {
            if !graph[number].is_held_by_candidates() {
                failed.push(*number);
            }
        }
        for number in &suspects {
            if !graph[number].is_unchanged() {
                failed.push(*number);
            }
        }
        if failed.is_empty() {
            break;
        }
        mark(&mut graph, failed).await?;
    }
    let mut found = 0;
    for vertex in graph.values().filter(|vertex| !vertex.live) {
        found += 1;
        for (core, _) in &vertex.inboxes {
            let mut pending = Pending::default();
            pending.inbox(core.clear());
            while pending.step() {
                rt::yield_now().await;
            }
        }
    }
    // What nobody else has any more is closed here, one after the other.
    for (_, vertex) in graph {
        drop(vertex);
        rt::yield_now().await;
    }
    Ok(found)
}

/// All sockets on their way that messages alone refer to.
async fn candidates() -> Result<Graph> {
    let mut graph = Graph::new();
    let mut from = 0;
    let mut found = Vec::new();
    found.try_room(AT_ONCE)?;
    loop {
        rights::sockets(from, AT_ONCE, &mut found);
        let Some((last, _)) = found.last() else {
            return Ok(graph);
        };
        from = last + 1;
        for (number, file) in found.drain(..) {
            let Some(file) = file.upgrade() else { continue };
            let vertex = Vertex {
                file,
                inboxes: Vec::new(),
                holds: Vec::new(),
                held: 0,
                live: false,
                marked: false,
            };
            if vertex.is_candidate() {
                afford(ENTRY)?;
                graph.insert(number, vertex);
            }
        }
        rt::yield_now().await;
    }
}

/// Notes what waits in a candidate's inboxes; `false` if that changed meanwhile.
fn look_into(vertex: &mut Vertex) -> Result<bool> {
    let Some(socket) = vertex.file.socket() else {
        return Ok(false);
    };
    let mut holds = Vec::new();
    let mut inboxes = Vec::new();
    let mut look = |core: Arc<Core>, inboxes: &mut Vec<(Arc<Core>, usize)>| -> Result<bool> {
        let mut memory = Ok(());
        let changes = Socket::scan(&core, |rights| {
            memory = memory.and(holds.try_room(rights.files().len()));
            if memory.is_ok() {
                holds.extend(
                    rights
                        .files()
                        .iter()
                        .filter_map(|file| file.socket())
                        .map(Socket::number),
                );
            }
        });
        memory?;
        inboxes.try_room(1)?;
        if let Some(changes) = changes {
            inboxes.push((core, changes));
        }
        Ok(changes.is_some())
    };
    // Its own first: a connection that is accepted later is a change of it.
    if !look(socket.core().clone(), &mut inboxes)? {
        return Ok(false);
    }
    for core in socket.unaccepted() {
        if !look(core, &mut inboxes)? {
            return Ok(false);
        }
    }
    (vertex.holds, vertex.inboxes) = (holds, inboxes);
    Ok(true)
}

async fn count(graph: &mut Graph, numbers: &[u64]) {
    for number in numbers {
        let Some(vertex) = graph.get_mut(number) else { continue };
        let holds = ::core::mem::take(&mut vertex.holds);
        for held in &holds {
            if let Some(held) = graph.get_mut(held) {
                held.held += 1;
            }
        }
        if let Some(vertex) = graph.get_mut(number) {
            vertex.holds = holds;
        }
        rt::yield_now().await;
    }
}

/// Marks `roots` live, and all that waits in the inboxes of what is live.
async fn mark(graph: &mut Graph, roots: Vec<u64>) -> Result<()> {
    let mut open = roots;
    while let Some(number) = open.pop() {
        if let Some(vertex) = graph.get_mut(&number)
            && !vertex.marked
        {
            (vertex.live, vertex.marked) = (true, true);
            open.try_room(vertex.holds.len())?;
            open.extend(&vertex.holds);
        }
        rt::yield_now().await;
    }
    Ok(())
}
