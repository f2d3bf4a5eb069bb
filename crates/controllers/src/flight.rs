//! A bounded number of requests in flight.

use std::future::Future;
use std::pin::Pin;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// A bounded set of running futures, polled by their owner. They are no tasks, so none outlives it.
pub(crate) struct Flight<T> {
    running: FuturesUnordered<Pin<Box<dyn Future<Output = T> + Send>>>,
    limit: usize,
}

impl<T> Flight<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            running: FuturesUnordered::new(),
            limit,
        }
    }

    /// How many more may start now.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.running.len())
    }

    pub(crate) fn launch(&mut self, work: impl Future<Output = T> + Send + 'static) {
        self.running.push(Box::pin(work));
    }

    /// Returns the next result; never returns if nothing runs. Cancel-safe: a result is only taken
    /// when it is returned.
    pub(crate) async fn next(&mut self) -> T {
        match self.running.next().await {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    /// A result that is available already.
    pub(crate) fn ready(&mut self) -> Option<T> {
        futures::FutureExt::now_or_never(self.running.next()).flatten()
    }
}
