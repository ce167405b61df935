//! The sockets of a data folder: where the operator's door is, how it is opened, and how another process finds it.
//!
//! Only a process that holds the folder's lock creates a socket there, so it may replace a socket that a crash left
//! behind. A server's door has the name that every command looks for. A command that opened a closed folder itself uses
//! another name: settings such as the public URL belong to that command, so other commands wait until it ends.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_authority::{Authority, Operator, SystemRandom};
use countersign_protocol::door::SOCKET;
use countersign_server::Door;
use rustix::fs::Mode;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::exit::{Code, Failure};

/// The socket of a command that opened the folder itself.
pub(crate) const COMMAND_SOCKET: &str = "command.sock";
/// Maximum length of a socket's path, in bytes. Linux allows 107, other systems slightly less.
const MAX_PATH: usize = 100;
/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Returns whether a file in a data folder has the name of one of these sockets.
pub(crate) fn is_socket(name: &str) -> bool {
    [SOCKET, COMMAND_SOCKET].contains(&name)
}

/// A path of a socket that is short enough for the operating system.
pub(crate) struct SocketPath {
    path: PathBuf,
    /// Keeps the descriptor open that a path below `/proc/self/fd` names.
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

/// Finds the door of the server that has the folder open. Returns `None` if there is no such server.
pub(crate) fn find(folder: &Path) -> Result<Option<SocketPath>, Failure> {
    // A folder that cannot be read is refused with a better message when it is opened.
    let Ok(socket) = SocketPath::new(folder, SOCKET) else {
        return Ok(None);
    };
    // A symbolic link is not followed: a server replaces it, so it would lead to another process.
    let found = fs::symlink_metadata(socket.as_path()).ok();
    let Some(found) = found.filter(|found| found.file_type().is_socket()) else {
        return Ok(None);
    };
    let shown = folder.join(SOCKET);
    // Whoever can only write to the folder must not receive what the operator sends.
    let owner = fs::metadata(folder).map(|folder| folder.uid());
    let own = rustix::process::geteuid().as_raw();
    if ![Some(0), Some(own), owner.ok()].contains(&Some(found.uid())) {
        return Err(Failure::new(
            Code::Unreadable,
            format!(
                "{} belongs to uid {}, who owns neither the data folder nor this command",
                shown.display(),
                found.uid()
            ),
            "run this command as the user that runs the authority; if no server is running, delete the file",
        ));
    }
    match UnixStream::connect(socket.as_path()) {
        Ok(_) => Ok(Some(socket)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Failure::new(
            Code::Unreadable,
            format!(
                "only the user that runs the authority, and root, can use {}",
                shown.display()
            ),
            "run this command as that user, or use `--url` and CLERK_SECRET_KEY",
        )),
        // Nothing listens there: a crash left the socket behind.
        Err(_) => Ok(None),
    }
}

/// An open door. Its socket file is deleted when this is dropped.
pub(crate) struct OpenDoor {
    name: SocketName,
    door: Door,
}

/// A socket file, deleted when this is dropped.
struct SocketName(SocketPath);

impl Drop for SocketName {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.as_path());
    }
}

impl OpenDoor {
    /// Opens a door with this name. The caller must hold the folder's lock, as it does while the authority is open.
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
                    "cannot open the socket {}: {error}",
                    folder.join(name).display()
                ),
                "put the data folder on a file system that supports Unix sockets",
            )
        })
    }

    /// Returns the path of the socket.
    pub(crate) fn socket(&self) -> &Path {
        self.name.0.as_path()
    }

    /// Accepts no more connections, answers the requests that were received, and closes the door.
    pub(crate) fn close(self) {
        drop(self.name);
        self.door.close();
    }
}

/// Creates a socket that only its owner can use, and replaces what is there under that name. On Linux, the file gets the
/// mode that the socket has when it is bound, so the file is never open to others, and no mode is set by a path that
/// somebody could redirect.
fn bind(folder: &Path, name: &str) -> io::Result<(SocketName, UnixListener)> {
    let path = SocketPath::new(folder, name)?;
    match fs::remove_file(path.as_path()) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path.as_path())?)?;
    let name = SocketName(path);
    net::listen(&socket, BACKLOG)?;
    Ok((name, UnixListener::from(socket)))
}
