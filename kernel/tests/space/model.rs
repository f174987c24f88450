//! Any sequence of calls, against a model.

use std::{collections::BTreeMap, sync::Arc};

use kernel::{
    errno::{Errno, Result},
    mm::{AddressSpace, Prot},
};
use proptest::prelude::*;

use super::{Accounting, BASE, PAGE, RW, map, now, read, write};

#[derive(Clone, Debug)]
enum Op {
    Map(u64, u64, Prot),
    Unmap(u64, u64),
    Protect(u64, u64, Prot),
    Drop(u64, u64),
    Move(u64, u64, u64),
    Write(u64, u8),
    Read(u64),
    Fork,
    Switch(usize),
    Exit,
}

const PAGES: u64 = 24;

fn prots() -> impl Strategy<Value = Prot> {
    prop_oneof![Just(RW), Just(Prot::READ), Just(Prot::empty()), Just(RW | Prot::EXEC)]
}

fn ops() -> impl Strategy<Value = Op> {
    let range = || (0..PAGES, 1..8u64).prop_map(|(start, length)| (start, length.min(PAGES - start)));
    prop_oneof![
        3 => (range(), prots()).prop_map(|((start, length), prot)| Op::Map(start, length, prot)),
        2 => range().prop_map(|(start, length)| Op::Unmap(start, length)),
        2 => (range(), prots()).prop_map(|((start, length), prot)| Op::Protect(start, length, prot)),
        1 => range().prop_map(|(start, length)| Op::Drop(start, length)),
        2 => (range(), 0..PAGES).prop_map(|((start, length), to)| Op::Move(start, length, to)),
        8 => (0..PAGES, any::<u8>()).prop_map(|(page, byte)| Op::Write(page, byte)),
        5 => (0..PAGES).prop_map(Op::Read),
        1 => Just(Op::Fork),
        1 => (0..4usize).prop_map(Op::Switch),
        1 => Just(Op::Exit),
    ]
}

type Model = BTreeMap<u64, (Prot, u8)>;

/// Does the same to the model; what the call is to return.
fn expect(model: &mut Model, op: &Op) -> Result<u8> {
    let covered = |model: &Model, start, length| (start..start + length).all(|page| model.contains_key(&page));
    match *op {
        Op::Map(start, length, prot) => model.extend((start..start + length).map(|page| (page, (prot, 0)))),
        Op::Unmap(start, length) => model.retain(|page, _| !(start..start + length).contains(page)),
        Op::Protect(start, length, prot) => {
            for page in start..start + length {
                model.get_mut(&page).ok_or(Errno::ENOMEM)?.0 = prot;
            }
        }
        Op::Drop(start, length) => {
            model.range_mut(start..start + length).for_each(|(_, page)| page.1 = 0);
            if !covered(model, start, length) {
                return Err(Errno::ENOMEM);
            }
        }
        Op::Move(start, length, to) => {
            if to + length > PAGES + 8 || (to < start + length && start < to + length) {
                return Err(Errno::EINVAL);
            }
            if !covered(model, start, length) {
                return Err(Errno::EFAULT);
            }
            if model
                .range(start..start + length)
                .any(|(_, page)| page.0 != model[&start].0)
            {
                return Err(Errno::EFAULT);
            }
            for page in 0..length {
                let moved = model.remove(&(start + page));
                model.extend(moved.map(|moved| (to + page, moved)));
            }
        }
        Op::Write(page, byte) => {
            let page = model
                .get_mut(&page)
                .filter(|page| page.0.contains(Prot::WRITE))
                .ok_or(Errno::EFAULT)?;
            page.1 = byte;
        }
        Op::Read(page) => {
            return model
                .get(&page)
                .filter(|page| !page.0.is_empty())
                .map(|page| page.1)
                .ok_or(Errno::EFAULT);
        }
        Op::Fork | Op::Switch(_) | Op::Exit => {}
    }
    Ok(0)
}

fn perform(space: &Arc<AddressSpace>, op: &Op) -> Result<u8> {
    let at = |page: u64| BASE + page * PAGE;
    match *op {
        Op::Map(start, length, prot) => map(space, start, length, prot).map(|_| 0),
        Op::Unmap(start, length) => now(space.munmap(at(start), length * PAGE)).map(|()| 0),
        Op::Protect(start, length, prot) => now(space.mprotect(at(start), length * PAGE, prot)).map(|()| 0),
        Op::Drop(start, length) => now(space.madvise(at(start), length * PAGE, 4)).map(|()| 0),
        Op::Move(_, length, to) if to + length > PAGES + 8 => Err(Errno::EINVAL),
        Op::Move(start, length, to) => now(space.mremap(at(start), length * PAGE, length * PAGE, 3, at(to))).map(|_| 0),
        Op::Write(page, byte) => write(space, at(page) + 4095, byte).map(|()| 0),
        Op::Read(page) => read(space, at(page) + 4095),
        Op::Fork | Op::Switch(_) | Op::Exit => Ok(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn spaces_agree_with_the_model(steps in proptest::collection::vec(ops(), 1..120)) {
        let _accounting = Accounting::start();
        let mut spaces = vec![(AddressSpace::new().unwrap(), Model::new())];
        let mut current = 0;
        for op in steps {
            match op {
                Op::Fork if spaces.len() < 4 => {
                    let (space, model) = &spaces[current];
                    let forked = (now(space.fork()).unwrap(), model.clone());
                    spaces.push(forked);
                }
                Op::Switch(to) => current = to % spaces.len(),
                Op::Exit if spaces.len() > 1 => {
                    spaces.swap_remove(current).0.leave();
                    current = 0;
                }
                _ => {
                    let (space, model) = &mut spaces[current];
                    let (expected, found) = (expect(model, &op), perform(space, &op));
                    prop_assert_eq!(found, expected, "{:?}", op);
                }
            }
        }
        for (space, model) in &mut spaces {
            for page in 0..PAGES + 8 {
                let op = Op::Read(page);
                prop_assert_eq!(perform(space, &op), expect(model, &op), "page {} at the end", page);
            }
        }
    }
}
