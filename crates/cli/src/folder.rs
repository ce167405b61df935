//! The data folder: making one, opening one, and refusing files that others may read.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use countersign_authority::{Authority, AuthorityOptions, CreatedInstance, MasterKey, SystemClock, SystemRandom};
use countersign_store::sqlite::{SqliteOptions, SqliteStore};

use crate::exit::{Code, Failure};
use crate::settings::master_key;

/// The file of the master key in a data folder.
const MASTER_KEY: &str = "master.key";

/// Refuses a file that its group or others may read or write.
pub(crate) fn refuse_loose_mode(path: &Path) -> Result<(), Failure> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Code::Unreadable,
        format!("{} can be used by others than its owner (mode {mode:o})", path.display()),
        format!("chmod 600 {}", path.display()),
    ))
}

/// Makes a data folder with an authority, a first instance and its key. Nothing is there where it fails half-way, but the
/// master key, which a second try uses again.
pub(crate) async fn init(folder: &Path, options: AuthorityOptions, is_live: bool) -> Result<(Authority, CreatedInstance), Failure> {
    let store = SqliteStore::create(folder, sqlite_options(None))?;
    let master = first_master_key(folder)?;
    Authority::initialise(&store, &master, &SystemClock::default(), &SystemRandom).await.map_err(|error| match error {
        countersign_authority::Error::Store(countersign_store::StoreError::Conflict(_)) => Failure::new(
            Code::Failed,
            format!("{} holds an authority already", folder.display()),
            "start it with `countersign serve --data DIR`, or choose another folder",
        ),
        error => error.into(),
    })?;
    let authority = open_authority(Arc::new(store), &master, options).await?;
    let created = authority.create_instance("default", is_live).await?;
    Ok((authority, created))
}

/// Opens the authority of a data folder.
pub(crate) async fn open(
    folder: &Path,
    master_key_file: Option<&Path>,
    token_index_mib: Option<u64>,
    options: AuthorityOptions,
) -> Result<Authority, Failure> {
    // The store first: where it is missing, so is the key, and the store's message says more.
    let store = SqliteStore::open(folder, sqlite_options(token_index_mib))?;
    let master = master_key(folder, master_key_file)?;
    let authority = open_authority(Arc::new(store), &master, options).await?;
    if authority.instances().await?.is_empty() {
        // `init` was cut off between its two steps; it is safe to finish them by hand.
        return Err(Failure::new(
            Code::NotInitialised,
            format!("{} holds an authority without an instance", folder.display()),
            "`countersign init` was interrupted here; remove the folder and run it again",
        ));
    }
    Ok(authority)
}

async fn open_authority(store: Arc<SqliteStore>, master: &MasterKey, options: AuthorityOptions) -> Result<Authority, Failure> {
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
    Ok(Authority::open(store, master, clock, random, options).await?)
}

fn sqlite_options(token_index_mib: Option<u64>) -> SqliteOptions {
    let mut options = SqliteOptions { on_fatal: Box::new(end_at_once), ..SqliteOptions::default() };
    if let Some(mib) = token_index_mib {
        options.token_index_bytes = mib.saturating_mul(1 << 20);
    }
    options
}

/// After a failed write or sync nobody knows what is on the disk. Only a fresh start that reads it again does.
fn end_at_once(reason: &str) {
    let hint = "look at the disk, then start again: what was acknowledged is there";
    Failure::new(Code::StoreFailed, format!("the disk failed: {reason}"), hint).report();
    std::process::exit(i32::from(Code::StoreFailed.number()));
}

fn first_master_key(folder: &Path) -> Result<MasterKey, Failure> {
    let path = folder.join(MASTER_KEY);
    if path.exists() {
        return master_key(folder, None);
    }
    #[expect(clippy::disallowed_methods, reason = "a key from the environment takes the place of the file")]
    if std::env::var_os("COUNTERSIGN_MASTER_KEY").is_some() {
        return master_key(folder, None);
    }
    let key = MasterKey::generate(&SystemRandom);
    write_private(&path, format!("{}\n", *key.expose()).as_bytes())?;
    Ok(key)
}

/// Writes a file that only its owner can read, whole or not at all, and durable.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let partial = folder.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        Failure::new(Code::Failed, format!("cannot write {}: {error}", path.display()), "check the folder's owner and free space")
    })
}

/// A publishable key for SDKs that insist on one: the host, as they read it, in standard base64. They want a dot in it.
pub(crate) fn publishable_key(public_url: &str, is_live: bool) -> String {
    let host = public_url.rsplit("://").next().unwrap_or_default().split('/').next().unwrap_or_default();
    let host = if host.contains('.') { host } else { "127.0.0.1:4840" };
    let kind = if is_live { "live" } else { "test" };
    format!("pk_{kind}_{}", base64::engine::general_purpose::STANDARD.encode(format!("{host}$")))
}
