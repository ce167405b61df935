//! The threads that sign, and the one that makes signing keys. RSA is the one costly act, a quarter of a millisecond each, so
//! it stays off the threads that answer requests, and the queue in front of it is bounded: what does not fit is refused at
//! once.
//!
//! While more jobs wait, a thread keeps what it has signed for a moment and hands it over together, one wake-up for each
//! thread that asked: the tokens then reach the store at once and share a commit. A lone caller is answered as soon as its
//! token is signed.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Error;

/// How many signatures may wait.
pub(crate) const QUEUE: usize = 256;
/// For how long a thread keeps what it has signed while it signs more.
const GATHER: Duration = Duration::from_millis(20);

/// Signs, and returns what hands the signature over to the thread that asked.
type Job = Box<dyn FnOnce() -> (ThreadId, Deliver) + Send>;
type Deliver = Box<dyn FnOnce(Others) + Send>;

/// Signatures for other tasks of one thread, handed over when this is dropped, wherever that is.
struct Others(Vec<Deliver>);

impl Drop for Others {
    fn drop(&mut self) {
        for deliver in self.0.drain(..) {
            deliver(Self(Vec::new()));
        }
    }
}

pub(crate) struct Signer {
    jobs: SyncSender<Job>,
}

impl Signer {
    /// Starts threads in front of which `queue` jobs may wait.
    pub(crate) fn start(name: &str, threads: usize, queue: usize) -> Self {
        let (jobs, waiting) = sync_channel::<Job>(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads.max(1) {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || while work(&waiting).is_some() {})
                .expect("a thread can be started at start-up");
        }
        Self { jobs }
    }

    /// Runs `job` on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let thread = std::thread::current().id();
        let job: Job = Box::new(move || {
            let signed = job();
            let deliver = move |others: Others| {
                // Nobody listens where the request was given up; the others get theirs by the drop.
                drop(answer.send((signed, others)));
            };
            (thread, Box::new(deliver))
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Error::Overloaded,
        })?;
        let (signed, others) = answered.await.map_err(|_| Error::Overloaded)?;
        drop(others);
        Ok(signed)
    }
}

/// Does the next job and those that wait behind it, for a moment. `None` once the authority is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "only for how long a thread gathers"
)]
fn work(waiting: &Mutex<Receiver<Job>>) -> Option<()> {
    let job = waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()?;
    // Where another thread holds the lock it waits for a job itself, so there is none.
    let next = || waiting.try_lock().ok()?.try_recv().ok();
    let start = Instant::now();
    let mut signed: HashMap<_, Vec<Deliver>> = HashMap::new();
    let mut sign = |job: Job| {
        let (thread, deliver) = job();
        signed.entry(thread).or_default().push(deliver);
    };
    sign(job);
    while start.elapsed() < GATHER
        && let Some(job) = next()
    {
        sign(job);
    }
    for mut deliveries in signed.into_values() {
        let first = deliveries.remove(0);
        first(Others(deliveries));
    }
    Some(())
}
