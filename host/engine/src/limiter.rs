//! Holds all memories and tables of one call to one limit in bytes.

use fnhost_types::memory::CallMemory;
use wasmtime::ResourceLimiter;

/// Bytes that one table element takes in the host.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Counts what a call's memories and tables hold together, next to what the host holds for the call.
#[derive(Debug)]
pub(super) struct MemoryLimiter(CallMemory);

/// The guest asked for more memory than the call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("requested {wanted_bytes} bytes of memory; the limit is {limit_bytes}")]
pub(super) struct OverLimit {
    pub limit_bytes: usize,
    pub wanted_bytes: usize,
}

impl MemoryLimiter {
    pub fn new(memory: CallMemory) -> Self {
        Self(memory)
    }

    /// The most bytes held at a time.
    pub fn peak_bytes(&self) -> usize {
        self.0.peak_bytes()
    }

    /// Grows by the difference of two sizes. Going over is a trap and not a failed `memory.grow`: the trap
    /// carries the reason and the place, where a guest's allocator would only abort.
    fn grow(&mut self, current_bytes: usize, desired_bytes: usize) -> wasmtime::Result<bool> {
        let taken = self.0.take(desired_bytes.saturating_sub(current_bytes));
        taken.map_err(|wanted_bytes| OverLimit { limit_bytes: self.0.limit_bytes(), wanted_bytes })?;
        Ok(true)
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current.saturating_mul(TABLE_ELEMENT_BYTES), desired.saturating_mul(TABLE_ELEMENT_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = MemoryLimiter::new(CallMemory::new(1000));
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(limiter.memory_growing(0, 200, None).unwrap(), "a second memory");
        assert!(limiter.table_growing(0, 50, None).unwrap());
        assert_eq!(limiter.peak_bytes(), 1000);
        let error = limiter.memory_growing(400, 401, None).unwrap_err();
        assert_eq!(
            error.downcast_ref::<OverLimit>(),
            Some(&OverLimit { limit_bytes: 1000, wanted_bytes: 1001 })
        );
        assert_eq!(limiter.peak_bytes(), 1000, "what was refused is not counted");
    }
}
