//! Memory of a call: what its guest has and what the host holds for it, against one limit; and requests for memory that are too
//! large to be answered.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

/// The memory of one call. Cheap to clone: the guest's side and the host's share it.
#[derive(Clone, Debug)]
pub struct CallMemory(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
}

impl CallMemory {
    /// None is used yet.
    pub fn new(limit_bytes: usize) -> Self {
        Self(Arc::new(Account {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
        }))
    }

    /// The most that it may be, in bytes.
    pub fn limit_bytes(&self) -> usize {
        self.0.limit_bytes
    }

    /// What is left of it, in bytes.
    pub fn left_bytes(&self) -> usize {
        self.0.limit_bytes.saturating_sub(self.0.used_bytes.load(Ordering::Relaxed))
    }

    /// The most that it was, in bytes.
    pub fn peak_bytes(&self) -> usize {
        self.0.peak_bytes.load(Ordering::Relaxed)
    }

    /// Takes so many bytes more.
    ///
    /// # Errors
    /// It would be more than the limit, namely this; then nothing is taken.
    pub fn take(&self, bytes: usize) -> Result<(), usize> {
        let fits = |used: usize| used.checked_add(bytes).filter(|wanted| *wanted <= self.0.limit_bytes);
        match self.0.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(before) => {
                self.0.peak_bytes.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => Err(used.saturating_add(bytes)),
        }
    }

    /// Gives back what was taken.
    pub fn give_back(&self, bytes: usize) {
        self.0.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Requests for less are nobody's business.
const NOTED_BYTES_MIN: usize = 1 << 20;

thread_local! {
    /// The largest request of this thread since it was last set to 0.
    static LARGEST_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// An allocator that notes the largest request of each thread, for [`within`].
#[derive(Debug)]
pub struct Noted<A>(pub A);

fn note(bytes: usize) {
    if bytes >= NOTED_BYTES_MIN {
        // At a thread's end there is nothing left to note for.
        let _ = LARGEST_BYTES.try_with(|largest| largest.set(largest.get().max(bytes)));
    }
}

// SAFETY: every request goes to the allocator inside as it came; noting it allocates nothing.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Noted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: as the caller promises.
        unsafe { self.0.realloc(place, layout, new_size) }
    }
}

/// Something asked for more memory at once than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Awaits something that may ask for so many bytes at once. A driver makes room for a whole message when it has seen its length:
/// with [`Noted`] as the allocator that is noticed where it next waits for the network, as a rule before the message has come, while its
/// room is only an address. What comes without a wait comes as a whole. With another allocator there is no bound.
///
/// # Errors
/// It asked for more, and is not awaited further.
pub async fn within<F: Future>(bytes: usize, future: F) -> Result<F::Output, TooLarge> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        LARGEST_BYTES.set(0);
        let polled = future.as_mut().poll(context);
        if LARGEST_BYTES.get() > bytes {
            return Poll::Ready(Err(TooLarge));
        }
        polled.map(Ok)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_and_host_share_one_limit() {
        let memory = CallMemory::new(1000);
        let host = memory.clone();
        assert_eq!(memory.take(600), Ok(()));
        assert_eq!(host.take(500), Err(1100));
        assert_eq!((host.left_bytes(), host.take(400)), (400, Ok(())));
        assert_eq!(memory.take(usize::MAX), Err(usize::MAX));
        host.give_back(400);
        assert_eq!((memory.left_bytes(), memory.peak_bytes()), (400, 1000));
    }
}
