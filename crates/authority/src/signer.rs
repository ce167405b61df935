//! The threads that sign. RSA is the one costly act, half a millisecond each, so it stays off the threads that answer
//! requests, and the queue in front of it is bounded: what does not fit is refused at once.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::Error;

/// How many signatures may wait.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Signer {
    jobs: SyncSender<Job>,
}

impl Signer {
    pub(crate) fn start(threads: usize) -> Self {
        let (jobs, waiting) = sync_channel::<Job>(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads.max(1) {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new()
                .name(format!("signer-{number}"))
                .spawn(move || work(&waiting))
                .expect("a thread can be started at start-up");
        }
        Self { jobs }
    }

    /// Runs `job` on a signing thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Nobody listens where the request was given up.
            let _ = answer.send(job());
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Error::Overloaded,
        })?;
        answered.await.map_err(|_| Error::Overloaded)
    }
}

/// Takes jobs until the authority is dropped.
fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
