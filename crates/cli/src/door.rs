//! The sockets of a data folder: where the operator's door is, how it is opened, and how another process finds it.
//!
//! Only a process that holds the folder's lock makes a socket there, so it may replace what a crash left. A server's
//! door has the name that every command looks for. A command that opened a closed folder itself uses a socket of
//! another name: its settings, such as the public URL, are its own, so other commands wait for its end.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_authority::{Authority, Operator, SystemRandom};
use countersign_protocol::door::SOCKET;
use countersign_server::Door;

use crate::exit::{Code, Failure};

/// The socket of a command that opened the folder itself.
pub(crate) const COMMAND_SOCKET: &str = "command.sock";
/// Longest path of a socket, in bytes. Linux allows 107, others a few less.
const MAX_PATH: usize = 100;

/// Returns whether a file in a data folder is a socket of ours.
pub(crate) fn is_socket(name: &str) -> bool {
    [SOCKET, COMMAND_SOCKET].contains(&name)
}

/// The path of a socket, short enough for the operating system.
pub(crate) struct SocketPath {
    path: PathBuf,
    /// The folder that a path below `/proc/self/fd` leads through.
    _folder: Option<File>,
}

impl SocketPath {
    pub(crate) fn new(folder: &Path, name: &str) -> io::Result<Self> {
        let direct = folder.join(name);
        if direct.as_os_str().len() <= MAX_PATH {
            return Ok(Self {
                path: direct,
                _folder: None,
            });
        }
        let folder = File::open(folder)?;
        let through = format!("/proc/self/fd/{}", folder.as_raw_fd());
        Ok(Self {
            path: Path::new(&through).join(name),
            _folder: Some(folder),
        })
    }

    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }
}

/// Finds the door of the server that has the folder open. `None` if there is no such server.
pub(crate) fn find(folder: &Path) -> Result<Option<SocketPath>, Failure> {
    // A folder that cannot be read is refused in better words when it is opened.
    let Ok(socket) = SocketPath::new(folder, SOCKET) else {
        return Ok(None);
    };
    match UnixStream::connect(socket.as_path()) {
        Ok(_) => Ok(Some(socket)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            if fs::symlink_metadata(socket.as_path()).is_err() {
                return Ok(None);
            }
            Err(Failure::new(
                Code::Unreadable,
                format!(
                    "{} can be used only by the user that runs the authority, and by root",
                    folder.join(SOCKET).display()
                ),
                "run this command as that user, or talk to the authority with `--url` and CLERK_SECRET_KEY",
            ))
        }
        // Nobody listens: there is no socket, or a crash left it.
        Err(_) => Ok(None),
    }
}

/// An open door, whose name goes when it is dropped.
pub(crate) struct OpenDoor {
    name: SocketName,
    door: Door,
}

/// The name of a socket.
struct SocketName(SocketPath);

impl Drop for SocketName {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.as_path());
    }
}

impl OpenDoor {
    /// Opens a door with this name. The caller holds the folder's lock, as long as it has the authority.
    pub(crate) fn open(
        folder: &Path,
        name: &str,
        authority: &Arc<Authority>,
        operator: Operator,
    ) -> Result<Self, Failure> {
        let open = || -> io::Result<Self> {
            let (name, socket) = bind(folder, name)?;
            let random = Arc::new(SystemRandom);
            let door = Door::open(socket, Arc::clone(authority), operator, random)?;
            Ok(Self { name, door })
        };
        open().map_err(|error| {
            Failure::new(
                Code::Failed,
                format!(
                    "the socket {} cannot be opened: {error}",
                    folder.join(name).display()
                ),
                "the data folder must be on a file system that allows sockets",
            )
        })
    }

    /// Returns the path of the socket.
    pub(crate) fn socket(&self) -> &Path {
        self.name.0.as_path()
    }

    /// Lets nobody in any more, answers what was asked, and closes the door.
    pub(crate) fn close(self) {
        drop(self.name);
        self.door.close();
    }
}

/// Makes a socket that only its owner can use. It replaces what is there. The process's umask lets nobody else in before the
/// mode is set.
fn bind(folder: &Path, name: &str) -> io::Result<(SocketName, UnixListener)> {
    let path = SocketPath::new(folder, name)?;
    match fs::remove_file(path.as_path()) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path.as_path())?;
    let name = SocketName(path);
    fs::set_permissions(name.0.as_path(), fs::Permissions::from_mode(0o600))?;
    Ok((name, socket))
}
