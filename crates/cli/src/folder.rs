//! The data folder: making one, opening one, and refusing files that others may read.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use countersign_authority::{
    Authority, AuthorityOptions, CreatedInstance, Error, MasterKey, SystemClock, SystemRandom,
};
use countersign_store::Store as _;
use countersign_store::sqlite::{OpenError, SqliteOptions, SqliteStore};
use tempfile::NamedTempFile;

use crate::exit::{Code, Failure};
use crate::invocation::quoted;
use crate::memory;
use crate::settings::{master_key, variable};

/// The file of the store in a data folder.
const DATABASE: &str = "countersign.db";
/// The file of the master key in a data folder.
const MASTER_KEY: &str = "master.key";
/// The largest index of tokens that nobody asked for, in bytes: nine million tokens.
const MAX_DEFAULT_INDEX: u64 = 2048 << 20;

/// Refuses a file that its group or others may read or write.
pub(crate) fn refuse_loose_mode(path: &Path) -> Result<(), Failure> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(());
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Code::Unreadable,
        format!(
            "{} can be used by others than its owner (mode {mode:o})",
            path.display()
        ),
        format!("chmod 600 {}", quoted(path)),
    ))
}

/// Makes a data folder with an authority, a first instance and its key, and finishes what an interrupted try has begun: the
/// folder, the master key, the data keys and the instance come in this order, each durable before the next. `None` where all of it is there
/// already: nothing changes then.
pub(crate) async fn init(
    folder: &Path,
    master_key_file: Option<&Path>,
    options: AuthorityOptions,
    is_live: bool,
) -> Result<Option<(Authority, CreatedInstance)>, Failure> {
    refuse_foreign(folder)?;
    let store = SqliteStore::create(folder, sqlite_options(None))?;
    let is_begun = !store.data_keys().await.map_err(Error::Store)?.is_empty();
    if is_begun
        && !store
            .list_instances()
            .await
            .map_err(Error::Store)?
            .is_empty()
    {
        return Ok(None);
    }
    let master = if is_begun {
        master_key(folder, master_key_file)?
    } else {
        first_master_key(folder, master_key_file)?
    };
    if !is_begun {
        Authority::initialise(&store, &master, &SystemClock::default(), &SystemRandom).await?;
    }
    let authority = open_authority(Arc::new(store), &master, options).await?;
    let created = authority.create_instance("default", is_live).await?;
    sync_names(folder)?;
    Ok(Some((authority, created)))
}

/// Opens the authority of a data folder.
pub(crate) async fn open(
    folder: &Path,
    master_key_file: Option<&Path>,
    token_index_mib: Option<u64>,
    options: AuthorityOptions,
) -> Result<Authority, Failure> {
    // Whether there is an authority comes first: where it is missing, so is the key, and the message about it says more. The
    // key comes before the store is opened, so that a refusal has touched nothing.
    if !folder.join(DATABASE).exists() {
        refuse_foreign(folder)?;
        return Err(OpenError::Missing(folder.to_owned()).into());
    }
    let master = master_key(folder, master_key_file);
    let (store, master) = match master {
        Ok(master) => {
            let told = |error| foreign_or_damaged(folder, error);
            // Once it is open the store is brought in order after a crash, and when it is closed too.
            let keys = SqliteStore::read_data_keys(folder).map_err(told)?;
            Authority::try_master_key(&master, &keys)?;
            let store = SqliteStore::open(folder, sqlite_options(token_index_mib)).map_err(told)?;
            (store, master)
        }
        Err(failure) => return Err(without_key(folder, failure)),
    };
    let authority = open_authority(Arc::new(store), &master, options).await?;
    if authority.instances().await?.is_empty() {
        return Err(Failure::new(
            Code::NotInitialised,
            format!(
                "{} holds an authority without an instance, because `countersign init` was interrupted",
                folder.display()
            ),
            "run `countersign init` on this folder again; it goes on where it stopped",
        ));
    }
    Ok(authority)
}

/// A file with the store's name beside a master key that is no database at all was one: its beginning is destroyed.
fn foreign_or_damaged(folder: &Path, error: OpenError) -> Failure {
    let mut beginning = [0; 16];
    let is_read = File::open(folder.join(DATABASE))
        .and_then(|mut file| file.read_exact(&mut beginning))
        .is_ok();
    match error {
        OpenError::Foreign(_) if is_read && &beginning != b"SQLite format 3\0" => {
            OpenError::Damaged(format!(
                "the beginning of {} is overwritten",
                folder.join(DATABASE).display()
            ))
            .into()
        }
        error => error.into(),
    }
}

/// Where the key cannot be read, an empty database file explains more than the key: `init` was cut off before both.
fn without_key(folder: &Path, failure: Failure) -> Failure {
    let is_empty = fs::metadata(folder.join(DATABASE)).is_ok_and(|metadata| metadata.len() == 0);
    if is_empty && !folder.join(MASTER_KEY).exists() {
        OpenError::Missing(folder.to_owned()).into()
    } else {
        failure
    }
}

/// Refuses a folder with files of others in it, and a path that is no folder.
fn refuse_foreign(folder: &Path) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        let hint = "--data names a folder that belongs to the user that runs this";
        Failure::new(
            Code::Unreadable,
            format!("{} cannot be read: {error}", folder.display()),
            hint,
        )
    };
    let foreign = |what: String| {
        Failure::new(
            Code::Foreign,
            what,
            "choose another folder with --data; nothing was changed in this one",
        )
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(foreign(format!("{} is no folder", folder.display())));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let names = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    if names.iter().any(|name| name == DATABASE) {
        return Ok(());
    }
    match names.iter().find(|name| !is_ours(&name.to_string_lossy())) {
        Some(name) => Err(foreign(format!(
            "{} holds files of something else, for instance {}",
            folder.display(),
            name.to_string_lossy()
        ))),
        None => Ok(()),
    }
}

/// What may lie in a data folder before there is an authority: our own files, what a new file system brings, and what an
/// operator puts there beforehand.
fn is_ours(name: &str) -> bool {
    name.starts_with("countersign.")
        || name.starts_with('.')
        || name == MASTER_KEY
        || name == "lost+found"
        || name.ends_with(".pem")
}

/// Makes the names in a folder durable, and its own name, and so on upwards: a file that was synced is lost all the same
/// when a name that leads to it is.
fn sync_names(folder: &Path) -> Result<(), Failure> {
    let sync = || -> std::io::Result<()> {
        for place in fs::canonicalize(folder)?.ancestors() {
            match File::open(place) {
                Ok(place) => place.sync_all()?,
                // Who may not read a folder did not make it.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    sync().map_err(|error| {
        Failure::new(
            Code::StoreFailed,
            format!("{} cannot be made durable: {error}", folder.display()),
            "look at the disk",
        )
    })
}

async fn open_authority(
    store: Arc<SqliteStore>,
    master: &MasterKey,
    options: AuthorityOptions,
) -> Result<Authority, Failure> {
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
    Ok(Authority::open(store, master, clock, random, options).await?)
}

fn sqlite_options(token_index_mib: Option<u64>) -> SqliteOptions {
    let usual = SqliteOptions::default();
    let by_memory = || Some((memory::available()? / 4).min(MAX_DEFAULT_INDEX));
    SqliteOptions {
        on_fatal: Box::new(end_at_once),
        token_index_bytes: token_index_mib
            .map(|mib| mib.saturating_mul(1 << 20))
            .or_else(by_memory)
            .unwrap_or(usual.token_index_bytes),
        ..usual
    }
}

/// After a failed write or sync nobody knows what is on the disk. Only a fresh start that reads it again does.
fn end_at_once(reason: &str) {
    let hint = "look at the disk, then start again: what was acknowledged is there";
    Failure::new(
        Code::StoreFailed,
        format!("the disk failed: {reason}"),
        hint,
    )
    .report();
    std::process::exit(i32::from(Code::StoreFailed.number()));
}

/// The master key of a new authority: the one that was given, else a new one in its file.
fn first_master_key(folder: &Path, file: Option<&Path>) -> Result<MasterKey, Failure> {
    let path = file.map_or_else(|| folder.join(MASTER_KEY), Path::to_path_buf);
    if path.exists() || variable("COUNTERSIGN_MASTER_KEY").is_some() {
        return master_key(folder, file);
    }
    let key = MasterKey::generate(&SystemRandom);
    write_private(&path, format!("{}\n", *key.expose()).as_bytes())?;
    Ok(key)
}

/// Writes a file that only its owner can read, whole or not at all, and durable.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let mut file = draft(path)?;
        file.as_file_mut().write_all(text)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(parent(path))?.sync_all()
    };
    write().map_err(|error| {
        Failure::new(
            Code::Failed,
            unwritable(path, &error),
            "name a file in a folder that you may write to, on a disk with free space",
        )
    })
}

/// A file that is to become `path`: beside it, with a name that nobody can plant, and private from the first byte on.
pub(crate) fn draft(path: &Path) -> std::io::Result<NamedTempFile> {
    tempfile::Builder::new().make_in(parent(path), |name| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(name)
    })
}

/// The folder of a file.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

/// Why a file could not be written.
pub(crate) fn unwritable(path: &Path, error: &std::io::Error) -> String {
    let folder = parent(path).display();
    let why = match error.kind() {
        ErrorKind::NotFound => format!("the folder {folder} is missing"),
        ErrorKind::NotADirectory => format!("{folder} is no folder"),
        _ => error.to_string(),
    };
    format!("cannot write {}: {why}", path.display())
}

/// A publishable key for SDKs that insist on one: the host, as they read it, in standard base64. They want a dot in it.
pub(crate) fn publishable_key(public_url: &str, is_live: bool) -> String {
    let host = public_url
        .rsplit("://")
        .next()
        .unwrap_or_default()
        .split('/')
        .next()
        .unwrap_or_default();
    let host = if host.contains('.') {
        host
    } else {
        "127.0.0.1:4840"
    };
    let kind = if is_live { "live" } else { "test" };
    format!(
        "pk_{kind}_{}",
        base64::engine::general_purpose::STANDARD.encode(format!("{host}$"))
    )
}
