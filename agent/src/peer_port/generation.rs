//! How long what let a peer in is good: until a key is retired.
//!
//! A connection is authenticated once, at its beginning. To retire a key would therefore leave those alone who have
//! nothing but that key and are connected. So every connection belongs to the generation of keys that it was made
//! under, a generation ends when one of its keys is retired, and its connections end with it. Whoever has another key
//! connects again at once; installing a key or using another one ends nothing.

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;

/// A time in which no key was retired. Clones are the same one.
#[derive(Clone)]
pub(super) struct Generation {
    over: Arc<watch::Sender<bool>>,
}

/// Completes when a generation ends. May be polled again afterwards.
pub(super) struct Ended {
    over: watch::Receiver<bool>,
    changed: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Generation {
    pub(super) fn begin() -> Generation {
        Generation {
            over: Arc::new(watch::Sender::new(false)),
        }
    }

    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }

    pub(super) fn ended(&self) -> Ended {
        let over = self.over.subscribe();
        let mut watched = over.clone();
        let changed = Box::pin(async move {
            // Nobody can end a generation that everybody has forgotten.
            if watched.wait_for(|over| *over).await.is_err() {
                pending::<()>().await;
            }
        });
        Ended { over, changed }
    }
}

impl Ended {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if *self.over.borrow() {
            return Poll::Ready(());
        }
        self.changed.as_mut().poll(cx)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Generation")
            .field(&*self.over.borrow())
            .finish()
    }
}
