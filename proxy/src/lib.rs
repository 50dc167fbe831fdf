//! What of the sidecar others use: the reader of its mesh file, its certificate authority, and the
//! key that it has certified.

pub mod ca;
pub mod identity;
pub mod mesh;
