//! Packing of bodies: zstd behind the length of what was packed.
//!
//! One context each way is kept for each thread that packs; making one costs more
//! than most bodies do. What is unpacked takes no more memory than its length,
//! which is looked at first, and no more than the longest body there is.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use super::BODY_LEN_MAX;

/// Higher levels gain a few per cent and cost twice the time.
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The body's length and its compressed form, where that is shorter.
pub(super) fn pack(body: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(body.len()).ok()?;
    let compressed = COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(LEVEL).ok()?),
        };
        compressor.compress(body).ok()
    })?;
    let packed = [&len.to_be_bytes()[..], &compressed].concat();
    (packed.len() < body.len()).then_some(packed)
}

/// What was packed.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (len, compressed) = packed.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len));
    if len > BODY_LEN_MAX {
        return None;
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new().ok()?),
        };
        let mut body = vec![0; len];
        let written = decompressor.decompress_to_buffer(compressed, &mut body[..]);
        (written.ok()? == len).then_some(body)
    })
}
