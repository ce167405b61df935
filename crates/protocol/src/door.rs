//! The operator's door: names that the server and its clients on the same machine share.
//!
//! A process that has a data folder open answers the API on a Unix socket in that folder. The caller there is the
//! operator, who presents no credential but may name an instance and a machine. On all other listeners, these headers
//! mean nothing.

/// File name of the socket in the data folder.
pub const SOCKET: &str = "operator.sock";

/// Header with the id of the instance that a request is about. It may be absent if the authority has one instance.
pub const INSTANCE_HEADER: &str = "countersign-instance";

/// Header with the id of the machine in whose role the operator acts, to issue its tokens or to verify tokens as that
/// machine.
pub const MACHINE_HEADER: &str = "countersign-machine";
