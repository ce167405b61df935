//! The product's own crates at work in this package's processes, on a data folder that the executable made.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use countersign_authority::{Authority, AuthorityOptions, MasterKey, SystemClock, SystemRandom};
use countersign_store::{OpenStore, Store, StoreChoice, StoreOptions};

/// Opens the store of a data folder with room for so many bytes of tokens in its index.
pub fn open_store(folder: &Path, token_index_bytes: Option<u64>) -> Result<Arc<dyn Store>> {
    let mut options = StoreOptions {
        on_fatal: Box::new(|reason| {
            eprintln!("error: the disk failed: {reason}");
            std::process::exit(1)
        }),
        ..StoreOptions::default()
    };
    if let Some(bytes) = token_index_bytes {
        options.token_index_bytes = bytes;
    }
    Ok(StoreChoice::from(folder).open(options)?.into_store())
}

/// Opens the authority of a data folder on `store`, which is its store or stands before it.
pub async fn open(folder: &Path, store: Arc<dyn Store>) -> Result<Authority> {
    let path = folder.join("master.key");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let master = MasterKey::parse(&text)?;
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
    let (store, options) = (OpenStore::from(store), AuthorityOptions::default());
    let (authority, _operator) = Authority::open(store, &master, clock, random, options).await?;
    Ok(authority)
}

/// What a store measures about its work under this name.
pub fn measure(store: &dyn Store, name: &str) -> Result<u64> {
    let measures = store.measures();
    let found = measures.iter().find(|measure| measure.name == name);
    Ok(found
        .with_context(|| format!("the store does not measure {name}"))?
        .value)
}
