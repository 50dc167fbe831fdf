//! What of the sidecar others use: the reader of its mesh file.

pub mod mesh;
