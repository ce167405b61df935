//! Names that the operator's door and its clients share.
//!
//! A process that has a data folder open serves the API on a Unix socket in that folder. The caller there is the
//! operator, who presents no credential but may name an instance and a machine. All other listeners ignore these
//! headers.

/// File name of the socket in the data folder.
pub const SOCKET: &str = "operator.sock";

/// Header with the id of the instance that a request is about. It may be absent if the authority has one instance.
pub const INSTANCE_HEADER: &str = "countersign-instance";

/// Header with the id of the machine in whose role the operator acts, to issue its tokens or to verify tokens as that
/// machine.
pub const MACHINE_HEADER: &str = "countersign-machine";
