//! Which build this is.

use core::fmt;

/// Prints the image's build id in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub struct BuildId;

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match hal::image::build_id() {
            [] => f.write_str("host"),
            id => id.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}
