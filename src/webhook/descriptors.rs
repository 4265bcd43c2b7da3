//! File descriptors: how many connections the process can really hold. IO: reads `/proc`.
//!
//! Input: the bound that was asked for. Output: one that the limit on open files allows. Beyond that limit `accept` fails:
//! new connections would neither be served nor closed, and the API server would wait out its timeout for each pod. (A burst may
//! still use the rest up for a moment: what is above the bound is closed a little after it was accepted.)

/// Kept free: for the admin port's connections, listeners, and files that are being read.
const RESERVED: usize = 128;

/// The smaller of `connections` and what the limit on open files leaves; logged where that is less than asked for.
pub(crate) fn fit(connections: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(open_files) = open_files(&limits) else { return connections };
    let fitting = connections.min(open_files.saturating_sub(RESERVED).max(1));
    if fitting < connections {
        tracing::warn!(
            max_connections = connections,
            open_files,
            bound = fitting,
            "the limit on open files is too low for --max-connections: raise it (ulimit -n) or lower the flag"
        );
    }
    fitting
}

/// The soft limit in the text of `/proc/self/limits` (proc(5)); `None` where there is none.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{fit, open_files};

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files(&limits.replace("1024  ", "unlimited")), None);
        assert_eq!(open_files(""), None);
        assert_eq!(fit(1), 1);
    }
}
