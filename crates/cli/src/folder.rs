//! The data folder: making one, opening one, and refusing files that others may read.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use countersign_authority::{
    Authority, AuthorityOptions, CreatedInstance, MasterKey, Operator, Stage, SystemClock,
    SystemRandom,
};
use countersign_store::{OpenError, OpenStore, Presence, StoreChoice, StoreOptions};
use tempfile::NamedTempFile;

use crate::door::is_socket;
use crate::environment::variable;
use crate::exit::{Code, Failure};
use crate::invocation::quoted;
use crate::memory;

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
) -> Result<Option<(Authority, Operator, CreatedInstance)>, Failure> {
    let choice = StoreChoice::from(folder);
    refuse_foreign(folder, &choice)?;
    let store = choice.create(store_options(None))?;
    let master = match Authority::stage(&store).await? {
        Stage::Ready => return Ok(None),
        Stage::Begun => master_key(folder, master_key_file)?,
        Stage::Empty => {
            let master = first_master_key(folder, master_key_file)?;
            let clock = SystemClock::default();
            Authority::initialize(&store, &master, &clock, &SystemRandom).await?;
            master
        }
    };
    let (authority, operator) = open_authority(store, &master, options).await?;
    let created = authority
        .create_instance(&operator, "default", is_live)
        .await?;
    sync_names(folder)?;
    Ok(Some((authority, operator, created)))
}

/// Opens the authority of a data folder. Also returns the operator's capability.
pub(crate) async fn open(
    folder: &Path,
    master_key_file: Option<&Path>,
    token_index_mib: Option<u64>,
    options: AuthorityOptions,
) -> Result<(Authority, Operator), Failure> {
    let choice = StoreChoice::from(folder);
    // Whether there is an authority comes first: where it is missing, so is the key, and the message about it says more. The
    // key comes before the store is opened, so that a refusal has touched nothing.
    if choice.presence() == Presence::Absent {
        refuse_foreign(folder, &choice)?;
        return Err(OpenError::Missing(folder.to_owned()).into());
    }
    let master = master_key(folder, master_key_file)
        .map_err(|failure| without_key(folder, &choice, failure))?;
    // The master key is checked first, because opening or closing the store may change files after a crash.
    let keys = choice.read_data_keys().map_err(foreign_or_damaged)?;
    Authority::try_master_key(&master, &keys)?;
    let store = choice
        .open(store_options(token_index_mib))
        .map_err(foreign_or_damaged)?;
    if Authority::stage(&store).await? != Stage::Ready {
        return Err(Failure::new(
            Code::NotInitialized,
            format!(
                "{} holds an authority without an instance, because `countersign init` was interrupted",
                folder.display()
            ),
            "run `countersign init` on this folder again; it goes on where it stopped",
        ));
    }
    open_authority(store, &master, options).await
}

/// A file with the store's name beside a master key that is no database at all was one: its beginning is destroyed.
fn foreign_or_damaged(error: OpenError) -> Failure {
    if let OpenError::Foreign(path) = &error {
        let mut beginning = [0; 16];
        let is_read = File::open(path)
            .and_then(|mut file| file.read_exact(&mut beginning))
            .is_ok();
        if is_read && &beginning != b"SQLite format 3\0" {
            let damage = format!("the beginning of {} is overwritten", path.display());
            return OpenError::Damaged(damage).into();
        }
    }
    error.into()
}

/// If the key cannot be read and the store was never finished, `init` was interrupted before both, so the store's error
/// says more.
fn without_key(folder: &Path, choice: &StoreChoice, failure: Failure) -> Failure {
    if choice.presence() == Presence::Begun && !folder.join(MASTER_KEY).exists() {
        OpenError::Missing(folder.to_owned()).into()
    } else {
        failure
    }
}

/// Refuses a folder with files of others in it, and a path that is no folder.
fn refuse_foreign(folder: &Path, choice: &StoreChoice) -> Result<(), Failure> {
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
    if choice.presence() != Presence::Absent {
        return Ok(());
    }
    match names
        .iter()
        .find(|name| !is_ours(choice, &name.to_string_lossy()))
    {
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
fn is_ours(choice: &StoreChoice, name: &str) -> bool {
    choice.owns_file(name)
        || is_socket(name)
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
    store: OpenStore,
    master: &MasterKey,
    options: AuthorityOptions,
) -> Result<(Authority, Operator), Failure> {
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
    Ok(Authority::open(store, master, clock, random, options).await?)
}

fn store_options(token_index_mib: Option<u64>) -> StoreOptions {
    let usual = StoreOptions::default();
    let by_memory = || Some((memory::available()? / 4).min(MAX_DEFAULT_INDEX));
    StoreOptions {
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

/// Reads the master key: the environment's value, else its file, else `master.key` in the data folder.
fn master_key(folder: &Path, file: Option<&Path>) -> Result<MasterKey, Failure> {
    let malformed = |place: &str| {
        Failure::new(
            Code::MasterKey,
            format!("{place} holds no master key"),
            "a master key is 64 hexadecimal digits; `countersign init` makes one in master.key of the data folder",
        )
    };
    if let Some(text) = variable("COUNTERSIGN_MASTER_KEY") {
        return MasterKey::parse(&text).map_err(|_| malformed("COUNTERSIGN_MASTER_KEY"));
    }
    let path = file.map_or_else(|| folder.join(MASTER_KEY), Path::to_path_buf);
    refuse_loose_mode(&path)?;
    let text = fs::read_to_string(&path).map_err(|error| {
        Failure::new(
            Code::MasterKey,
            format!("cannot read the master key {}: {error}", path.display()),
            "give its place with --master-key-file, or the key in COUNTERSIGN_MASTER_KEY; it is never made anew for existing data",
        )
    })?;
    MasterKey::parse(&text).map_err(|_| malformed(&path.display().to_string()))
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
