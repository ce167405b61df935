//! Where the time of one verification goes inside the process, without HTTP.
//!
//! Not measured yet: it needs the product's crates. It will open an authority on a SQLite store with
//! stored tokens, and give nanoseconds per call for `Authority::verify` as a whole and for its parts:
//! hashing (HMAC-SHA-256 of the token string and of the caller's key), look-up (the store by locator),
//! decision (the rest of `verify`), serialisation (the answer's JSON). `nanoseconds_per_call` is the
//! stopwatch for all of them; the parts are rows, and their sum stands beside the whole.

use crate::clock::thread_processor_time;
use crate::report::Section;

/// Returns the breakdown, or `None` as long as nothing measures it.
pub fn section() -> anyhow::Result<Option<Section>> {
    Ok(None)
}

/// Returns the processor time of one call, averaged over `calls`.
pub fn nanoseconds_per_call(calls: u32, mut call: impl FnMut()) -> f64 {
    let before = thread_processor_time();
    for _ in 0..calls {
        call();
    }
    (thread_processor_time() - before).as_secs_f64() * 1e9 / f64::from(calls)
}
