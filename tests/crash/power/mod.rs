//! Power cuts under a real file system: ext4 on a disk that remembers what was flushed.
//!
//! A small FUSE file system serves one file, the [`Platter`]; a loop device makes it a disk, and ext4 is
//! mounted on that. The driver works there. At any moment an *image* can be taken: what was flushed, and any
//! of the sectors that were written since. Each image is mounted as a machine would after the power is back,
//! and a last life looks for what was acknowledged before the image was taken.
//!
//! The mounts are this thread's own (a mount name space), so that nothing is left behind however it ends.

mod platter;

use std::path::Path;
use std::process::Command;

use crate::key::{Dice, say, seed, size, skip};
use crate::kill::drain;
use crate::ledger::{Counts, Ledger};
use crate::life::{Folder, Kill, Watch, driver, live_watched};
use crate::mounts::own_mounts;
use crate::plan::Plan;
use crate::report::Level;
use platter::Platter;

/// The size of the disk.
const DISK: u64 = 24 << 20;

/// Cuts within cuts: an image may be the disk of the next life, which is cut while it recovers.
const DEPTH: u32 = 3;

/// Images of one life.
const IMAGES: usize = 4;

/// Reports of one life.
const REPORTS: u64 = 600;

/// A disk as a cut left it, and the books as they stood then.
struct Image {
    bytes: Vec<u8>,
    ledger: Ledger,
}

#[test]
fn no_power_cut_takes_what_is_on_the_disk() {
    let wanted = size("FOREBAY_IMAGES", 50);
    let told = campaign(Level::Disk, wanted, |faults| {
        assert!(faults.is_empty(), "{}", faults.join("\n"))
    });
    if let Some((images, counts)) = told {
        say(&format!(
            "{images} images of a disk after a power cut, nothing lost: {counts:?}"
        ));
        assert!(
            counts.acked > 0 && counts.delivered > 0,
            "nothing happened on these disks"
        );
    }
}

/// A disk that forgets nothing would show nothing: what was acknowledged at `os` is not promised to survive a
/// cut, and must be seen to be lost.
#[test]
fn the_disk_forgets_what_was_not_flushed() {
    let mut losses = 0;
    let told = campaign(Level::Os, 40, |faults| {
        losses += usize::from(faults.iter().any(|fault| fault.contains("is lost")));
    });
    if let Some((images, _)) = told {
        say(&format!(
            "{losses} of {images} images had lost what was only handed to the system"
        ));
        assert!(losses > 0, "this disk never forgets");
    }
}

/// Cuts the power until there are so many images, and hands on what is wrong with each, given that this level
/// survives. What was done; nothing if mounts are not to be had.
fn campaign(
    survives: Level,
    wanted: u64,
    mut judged: impl FnMut(Vec<String>) + Send,
) -> Option<(u64, Counts)> {
    let mut dice = Dice::new(seed());
    let done = std::thread::scope(|scope| {
        let campaign = scope.spawn(move || {
            own_mounts()?;
            let (mut images, mut counts) = (0, Counts::default());
            while images < wanted {
                let mut before = Image {
                    bytes: formatted()?,
                    ledger: Ledger::new(survives),
                };
                for life in 1..=DEPTH {
                    let mut taken = live(before, life, &mut dice)?;
                    before = taken.swap_remove(dice.below(taken.len() as u64) as usize);
                    images += taken.len() as u64;
                    for image in taken {
                        let (faults, counted) = judge(image, life + 1, &mut dice)?;
                        judged(faults);
                        counts += counted;
                    }
                }
                images += 1;
                let (faults, counted) = judge(before, DEPTH + 1, &mut dice)?;
                judged(faults);
                counts += counted;
            }
            Ok((images, counts))
        });
        campaign
            .join()
            .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    });
    done.map_err(|reason: String| skip(&reason)).ok()
}

/// An empty file system.
fn formatted() -> Result<Vec<u8>, String> {
    let folder = Folder::in_memory("power-empty");
    let file = folder.file("disk");
    std::fs::File::create(&file)
        .and_then(|disk| disk.set_len(DISK))
        .expect("the folder is ours");
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_itable_init=0"])
        .arg(&file))?;
    Ok(std::fs::read(&file).expect("just made"))
}

/// One life on a disk, and images of it.
fn live(before: Image, life: u32, dice: &mut Dice) -> Result<Vec<Image>, String> {
    let folder = Folder::in_memory("power");
    let (disk, root) = (folder.file("disk"), folder.file("root"));
    for place in [&disk, &root] {
        std::fs::create_dir(place).expect("the folder is ours");
    }
    let platter = Platter::holding(before.bytes);
    let _served = platter
        .serve(&disk)
        .map_err(|error| format!("no FUSE on this machine: {error}"))?;
    let _mounted = Mounted::on(&disk.join(Platter::FILE), &root)?;
    let mut url = url(&root);
    // Every other life has a queue that sheds.
    let policies = ["drop_oldest", "drop_lowest", "coalesce", "drop_newest"];
    if dice.one_in(2) {
        let policy = policies[dice.below(4) as usize];
        url = format!("{url}?on_full={policy}&capacity=12");
    }
    let mut plan = Plan::new(url, life, dice.next());
    (plan.pushers, plan.pushes, plan.workers) = (4, 60, 2);
    // Pushes at every level share groups; where `os` is looked at, it must be alone.
    plan.level = before.ledger.counts_os().then_some(Level::Os);
    plan.sync_done = dice.one_in(3);
    let mut ledger = before.ledger;
    let mut camera = Camera::new(&platter, dice);
    live_watched(
        driver(&plan),
        &plan,
        Kill::Reports(REPORTS as u32),
        &mut ledger,
        &mut camera,
    );
    let mut images = camera.images;
    ledger.died();
    images.push(Image {
        bytes: platter.image(dice),
        ledger,
    });
    Ok(images)
}

/// Takes images of a disk while a driver works on it.
struct Camera<'a> {
    platter: &'a Platter,
    dice: &'a mut Dice,
    /// After how many reports, the next one last.
    moments: Vec<u64>,
    heard: u64,
    images: Vec<Image>,
}

impl<'a> Camera<'a> {
    fn new(platter: &'a Platter, dice: &'a mut Dice) -> Self {
        let mut moments: Vec<u64> = (2..IMAGES).map(|_| dice.below(REPORTS)).collect();
        // One early: just after it has opened, which after the first life is just after it has recovered.
        moments.push(dice.below(3));
        moments.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            platter,
            dice,
            moments,
            heard: 0,
            images: Vec::new(),
        }
    }
}

impl Watch for Camera<'_> {
    fn wants(&mut self) -> bool {
        self.heard += 1;
        self.moments.pop_if(|moment| *moment < self.heard).is_some()
    }

    fn look(&mut self, ledger: &Ledger) {
        let mut ledger = ledger.clone();
        ledger.died();
        self.images.push(Image {
            bytes: self.platter.image(self.dice),
            ledger,
        });
    }
}

/// Mounts an image and looks for what was promised.
fn judge(image: Image, life: u32, dice: &mut Dice) -> Result<(Vec<String>, Counts), String> {
    let folder = Folder::in_memory("power-image");
    let (disk, root) = (folder.file("disk"), folder.file("root"));
    std::fs::write(&disk, image.bytes).expect("the folder is ours");
    std::fs::create_dir(&root).expect("the folder is ours");
    let _mounted = Mounted::on(&disk, &root)?;
    let mut ledger = image.ledger;
    drain(&mut ledger, dice, life, &url(&root));
    Ok((ledger.verdict(), ledger.counts()))
}

fn url(root: &Path) -> String {
    format!("sqlite:{}", root.join("jobs.db").display())
}

/// A mounted disk, until it is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn on(disk: &Path, root: &'a Path) -> Result<Self, String> {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop"])
            .arg(disk)
            .arg(root))?;
        Ok(Self(root))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(self.0));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
