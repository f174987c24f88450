//! Stacks with names, and what they come to.

use super::{log::Log, stacks::Stacks};
use anyhow::{Result, anyhow};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Instructions of user mode.
const USER: &str = "[user]";

/// Instructions by stack: names from the outermost function to the innermost, inlined ones as well.
#[derive(Debug, Default)]
pub struct Profile {
    stacks: BTreeMap<Vec<String>, u64>,
    /// How often the kernel was entered from user mode.
    pub entries: u64,
}

/// A function's share.
#[derive(Debug, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub name: String,
    /// Instructions of its own.
    pub own: u64,
    /// Those of what it called too.
    pub total: u64,
}

impl Profile {
    /// Counts the instructions of a log by the functions of the kernel it is of.
    ///
    /// # Errors
    /// The kernel has no debugging information.
    pub fn new(log: &Log, functions: &BTreeMap<u64, String>, elf: &Path) -> Result<Self> {
        let named = |address| crate::symbols::function(functions, address);
        let stacks = Stacks::follow(&log.runs, |address| named(address).map(|(start, _)| start));
        let mut inlined = Inlined::new(elf)?;
        let mut profile = Self {
            entries: stacks.entries,
            ..Self::default()
        };
        for (callers, block, count) in stacks.iter() {
            let callers: Vec<String> = callers.iter().filter_map(|at| Some(named(*at)?.1.to_owned())).collect();
            for &instruction in log.blocks.get(&block).into_iter().flatten() {
                let mut stack = callers.clone();
                stack.extend(inlined.at(instruction)?.iter().cloned());
                *profile.stacks.entry(stack).or_default() += count;
            }
        }
        let user: u64 = stacks
            .user
            .iter()
            .map(|(block, count)| length(log, *block) * count)
            .sum();
        profile.stacks.insert(vec![USER.to_owned()], user);
        Ok(profile)
    }

    /// Instructions in all, without those of user mode.
    pub fn kernel(&self) -> u64 {
        let kernel = self.stacks.iter().filter(|(stack, _)| stack[0] != USER);
        kernel.map(|(_, count)| count).sum()
    }

    /// Instructions of user mode.
    pub fn user(&self) -> u64 {
        self.stacks.values().sum::<u64>() - self.kernel()
    }

    /// Every function's share, the greatest of their own first.
    pub fn shares(&self) -> Vec<Share> {
        let mut shares: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (stack, count) in self.stacks.iter().filter(|(stack, _)| stack[0] != USER) {
            // One that stands twice on a stack counts once.
            for name in stack.iter().collect::<BTreeSet<_>>() {
                shares.entry(name).or_default().1 += count;
            }
            if let Some(name) = stack.last() {
                shares.entry(name).or_default().0 += count;
            }
        }
        let mut shares: Vec<Share> = shares
            .into_iter()
            .map(|(name, (own, total))| Share {
                name: name.to_owned(),
                own,
                total,
            })
            .collect();
        shares.sort_by_key(|share| std::cmp::Reverse((share.own, share.total)));
        shares
    }

    /// The kernel's calls as a tree, outermost first: depth, name, instructions with those of what it called. Of each function
    /// the largest callees first; those with less than `least` are left out.
    pub fn tree(&self, least: u64) -> Vec<(usize, String, u64)> {
        let stacks = self.stacks.iter().filter(|(stack, _)| stack[0] != USER);
        let stacks: Vec<_> = stacks.map(|(stack, count)| (stack.as_slice(), *count)).collect();
        let mut lines = Vec::new();
        grow(&stacks, 0, least, &mut lines);
        lines
    }

    /// A line for each stack, as flame graphs are made of: names with `;` between, a blank, the count.
    pub fn folded(&self) -> Vec<String> {
        let clean = |stack: &[String]| {
            stack
                .iter()
                .map(|name| name.replace(';', ":"))
                .collect::<Vec<_>>()
                .join(";")
        };
        self.stacks
            .iter()
            .map(|(stack, count)| format!("{} {count}", clean(stack)))
            .collect()
    }
}

/// Appends the functions at `depth` of these stacks, each with what it called.
fn grow(stacks: &[(&[String], u64)], depth: usize, least: u64, lines: &mut Vec<(usize, String, u64)>) {
    let mut callees: BTreeMap<&String, Vec<(&[String], u64)>> = BTreeMap::new();
    for stack in stacks {
        if let Some(name) = stack.0.get(depth) {
            callees.entry(name).or_default().push(*stack);
        }
    }
    let total = |stacks: &[(&[String], u64)]| stacks.iter().map(|stack| stack.1).sum::<u64>();
    let mut callees: Vec<_> = callees
        .into_iter()
        .map(|(name, stacks)| (total(&stacks), name, stacks))
        .collect();
    callees.sort_by_key(|(total, name, _)| (std::cmp::Reverse(*total), *name));
    for (total, name, stacks) in callees.into_iter().take_while(|callee| callee.0 >= least) {
        lines.push((depth, name.clone(), total));
        grow(&stacks, depth + 1, least, lines);
    }
}

fn length(log: &Log, block: u64) -> u64 {
    log.blocks.get(&block).map_or(0, |block| block.len() as u64)
}

/// What is inlined where.
struct Inlined {
    loader: addr2line::Loader,
    known: HashMap<u64, Vec<String>>,
}

impl Inlined {
    fn new(elf: &Path) -> Result<Self> {
        let loader = addr2line::Loader::new(elf).map_err(|error| anyhow!("{}: {error}", elf.display()))?;
        Ok(Self {
            loader,
            known: HashMap::new(),
        })
    }

    /// The functions inlined at an address, from the outermost to the innermost, without the one they are inlined into and
    /// without the standard library's.
    fn at(&mut self, address: u64) -> Result<&[String]> {
        if !self.known.contains_key(&address) {
            let names = self.look_up(address)?;
            self.known.insert(address, names);
        }
        Ok(&self.known[&address])
    }

    fn look_up(&self, address: u64) -> Result<Vec<String>> {
        let mut frames = self.loader.find_frames(address).map_err(|error| anyhow!("{error}"))?;
        let mut names = Vec::new();
        while let Some(frame) = frames.next().map_err(|error| anyhow!("{error}"))? {
            let name = frame
                .function
                .and_then(|function| Some(function.demangle().ok()?.into_owned()));
            let file = frame.location.and_then(|location| location.file);
            names.push((name.unwrap_or_else(|| "?".to_owned()), file.is_some_and(is_library)));
        }
        names.pop();
        names.reverse();
        let own = names.into_iter().filter(|(_, library)| !library);
        Ok(own.map(|(name, _)| without_hash(&name).to_owned()).collect())
    }
}

/// Whether a file is the standard library's, whose functions count as part of their callers.
fn is_library(file: &str) -> bool {
    file.contains("/library/core/") || file.contains("/library/alloc/")
}

/// A name without the compiler's `::h0123456789abcdef`.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(stacks: &[(&[&str], u64)]) -> Profile {
        let own = |stack: &[&str]| stack.iter().map(|name| (*name).to_owned()).collect();
        Profile {
            stacks: stacks.iter().map(|(stack, count)| (own(stack), *count)).collect(),
            entries: 1,
        }
    }

    #[test]
    fn shares_add_up_and_recursion_counts_once() {
        let profile = profile(&[(&["a"], 1), (&["a", "b"], 10), (&["a", "b", "a"], 100), (&[USER], 7)]);
        let shares: Vec<_> = profile
            .shares()
            .into_iter()
            .map(|it| (it.name, it.own, it.total))
            .collect();
        assert_eq!(shares, [("a".to_owned(), 101, 111), ("b".to_owned(), 10, 110)]);
        assert_eq!((profile.kernel(), profile.user()), (111, 7));
    }

    #[test]
    fn the_tree_has_the_largest_first_and_leaves_the_small_out() {
        let profile = profile(&[
            (&["a"], 1),
            (&["a", "b"], 10),
            (&["a", "c"], 20),
            (&["a", "d"], 2),
            (&[USER], 70),
        ]);
        let line = |depth, name: &str, count| (depth, name.to_owned(), count);
        assert_eq!(profile.tree(5), [line(0, "a", 33), line(1, "c", 20), line(1, "b", 10)]);
    }

    #[test]
    fn folded_lines_are_unambiguous() {
        assert_eq!(profile(&[(&["a", "[u8; 4]"], 3)]).folded(), ["a;[u8: 4] 3"]);
    }

    #[test]
    fn hashes_are_dropped() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::hello"), "a::hello");
    }
}
