//! `brk`.

use hal::{arch::PageTable, traits::PageTableOps};

use super::{
    AddressSpace, Inner, MAX_AREAS, PAGE, Prot, Role,
    area::{Area, Content, OnFork, Sharing},
    page_ceil,
};
use crate::mm::frame;

impl AddressSpace {
    /// `brk`: moves the end of the heap and returns where it is afterwards, which is where it was if it cannot be moved.
    pub async fn brk(&self, address: u64) -> u64 {
        let (old, new) = {
            let mut inner = self.unforked().await;
            let Inner { areas, layout, .. } = &mut *inner;
            let current = layout.heap_end;
            if address < layout.heap_start || address >= PageTable::USER_END {
                return current;
            }
            let (Some(old), Some(new)) = (page_ceil(current), page_ceil(address)) else {
                return current;
            };
            if new > old {
                let pages = (new - layout.heap_start) / PAGE;
                if !areas.is_free(old, new) || areas.count() >= MAX_AREAS || pages > frame::stats().total as u64 {
                    return current;
                }
                areas.insert(Area {
                    start: old,
                    end: new,
                    prot: Prot::READ | Prot::WRITE,
                    max_prot: Prot::all(),
                    sharing: Sharing::Private,
                    content: Content::Anonymous,
                    role: Role::Heap,
                    on_fork: OnFork::Copy,
                });
            }
            layout.heap_end = address;
            (old, new)
        };
        if new < old && self.remove(new, old).await.is_err() {
            // A split that makes too many areas: the heap keeps its pages.
            self.inner.lock().layout.heap_end = old;
            return old;
        }
        address
    }

    /// Says where `brk` starts: the end of the program's data. The heap is empty then.
    pub fn set_heap_start(&self, address: u64) {
        let mut inner = self.inner.lock();
        inner.layout.heap_start = address;
        inner.layout.heap_end = address;
    }
}
