"""Every number of the protocol, with its reason, in one place.

The unit comes last in a name (`_ms`, `_seconds`, `_bytes_max`, `_chars_max`, or `_max` for a count). What a number
bounds is checked where the bytes come in, so that no later code meets a longer list, a longer text or a deeper
nesting.
"""

from typing import Final

# --- Encoding -------------------------------------------------------------------------------------------------------

# Beyond 2^53 - 1 a JavaScript reader of the same bytes would lose digits.
integer_max: Final = 2**53 - 1
# An envelope's body needs 4 (list of evidence inside a version); twice that leaves room, and bounds recursion.
depth_max: Final = 8
# Four times the longest list, a page of authors. msgpack reserves memory for a list from its claimed length.
list_items_max: Final = 4_096
# Keys, signatures, digests and nonces have one length each.
key_bytes: Final = 32
signature_bytes: Final = 64
digest_bytes: Final = 32
nonce_bytes: Final = 16
# A mesh's name is part of every preimage, and is typed by people.
mesh_name_chars_max: Final = 32
# The longest domain is "pfn/keybind/2"; a short bound keeps a refusal from quoting kilobytes.
domain_chars_max: Final = 32

# --- Announcements --------------------------------------------------------------------------------------------------

# One announcement fits a few network packets; a million of them fit a small disk (4 GB).
announcement_bytes_max: Final = 4_096
# Two announcements of one author that prove that it contradicted itself, and the list around them (R38).
conviction_overhead_bytes: Final = 8
conviction_bytes_max: Final = 2 * announcement_bytes_max + conviction_overhead_bytes
# An epoch is one run of one process: the second in which it began, and chance, so that no two runs share one. Seconds
# of 32 bits last until 2106; of two runs that began in one second, or from one backup, 1 in 2,097,152 shares an epoch.
epoch_random_bits: Final = 21
epoch_max: Final = 2 ** (32 + epoch_random_bits) - 1
# Versions that a run remembers having announced, never to contradict itself; ten times its cap. Then an epoch begins.
own_versions_remembered_max: Final = 50_000
# 2020-01-01: nothing was announced before this software existed, so an older seq is a broken clock.
seq_min_ms: Final = 1_577_836_800_000
# The year 2514: a time in seconds beyond it was written in milliseconds by mistake.
time_seconds_max: Final = 2**34
# Ahead of the clock by more than this is parked; clocks of servers that run NTP agree within a second.
future_ms_max: Final = 600_000
# Ahead by more than this is refused, since parking it would keep it for days.
parked_future_ms_max: Final = 86_400_000
# A node renews its announcement every 6 h; after four missed renewals it is gone.
node_lifetime_ms: Final = 86_400_000
# A source that nobody verified for a week says nothing about today.
source_lifetime_ms: Final = 7 * 86_400_000
# Mirror claims are renewed at least daily, and lead fetchers; a stale one costs them a request.
mirror_lifetime_ms: Final = 86_400_000
# How far the stored last seq may lie ahead of the clock before a new epoch is begun (a clock was wrong once).
clock_behind_ms_max: Final = 300_000
# A clock that is set back by this or more made plans that lie too far ahead; by less, they are only a little late.
clock_set_back_ms_min: Final = 10_000

# A registry entry's host, path and port; browsers and servers take 2,000, directories rarely show more than 100.
url_chars_max: Final = 512
software_chars_max: Final = 64
features_max: Final = 32
feature_chars_max: Final = 32
# Pins are the trust graph: an operator who knows more than 64 others well should pin those who know them.
pins_max: Final = 64
# Newcomers that a node lets in before anybody pins them; bounds what one node can flood a mesh with.
sponsored_max: Final = 32
# Shown in lists; WordPress cuts names long before.
name_chars_max: Final = 200
# Shown as the short description; WordPress.org allows 150, others write a paragraph.
description_chars_max: Final = 2_000
tags_max: Final = 32
tag_chars_max: Final = 64
# A zip of a plugin; the largest known ones have about 100 MB.
artifact_size_bytes_max: Final = 1_073_741_824
# One for each form of evidence, and a little for forms to come.
evidence_max: Final = 8
# A keybind, the longest of the envelopes that ride along, with an origin of ordinary length, has about 400 bytes.
evidence_bytes_max: Final = 1_024
# A signed text over this does not ride along: it is kept and fetched like an artifact, by its sha256.
evidence_text_inline_bytes_max: Final = 1_024
# A signed text that is fetched: /federated/plugin-data with a long changelog and readme has some 100 KB.
evidence_text_bytes_max: Final = 1_048_576

# --- Names ----------------------------------------------------------------------------------------------------------

username_chars_max: Final = 64
slug_chars_max: Final = 64
version_chars_max: Final = 32
# DNS: 253 characters; the port, its colon and the brackets of an IPv6 address come on top.
host_chars_max: Final = 253
source_id_chars_max: Final = username_chars_max + 1 + host_chars_max + 6
naming_scheme_chars_max: Final = 256
# The word for what a publisher signs for anybody: the longest are "none" and "utf8".
oracle_chars_max: Final = 4

# --- Publishers -----------------------------------------------------------------------------------------------------

# A release envelope has about 450 bytes with an origin of ordinary length; a URL at its maximum still fits.
publisher_envelope_bytes_max: Final = 2_048
# A head that says "this is all I released" must be renewed, or a hidden release would stay hidden.
head_lifetime_seconds_max: Final = 14 * 86_400
# The four fields of a metadata signature; a description far beyond what any list shows.
metadata_bytes_max: Final = 65_536

# --- Notices: what publishers say about their keys and releases ------------------------------------------------------

# A sentence or two for people; longer explanations lie behind an advisory's URL.
reason_chars_max: Final = 300
summary_chars_max: Final = 300
# "GHSA-xxxx-xxxx-xxxx" has 19 characters, "CVE-2026-1234567" 16; publishers number as they like.
advisory_id_chars_max: Final = 64
advisory_aliases_max: Final = 8
# A weakness that was mended in more branches than this is described by fewer, wider ranges.
advisory_ranges_max: Final = 16
# "rotate" and "revoke", "identity" and "release", "critical": words out of a short list.
word_chars_max: Final = 16
# After a key was changed: for how long another change of the same key counts as a contradiction. Later it is only a
# stolen old key speaking, and must not be able to stop the publisher.
rotation_grace_seconds: Final = 7 * 86_400
# For how long the owner of a recovery key may undo what a stolen key did (as PLC and FAIR have it: 48 to 72 hours).
recovery_seconds: Final = 48 * 3_600
# Releases first seen within three days after a change of key or owner are held back: time for people to be alarmed.
cooldown_seconds: Final = 72 * 3_600
# A node's next key is committed to for three days here before a pin moves to it: time to see what a thief commits to.
succession_age_seconds_min: Final = 72 * 3_600
# Changes of key of one source that are remembered: nobody changes a key monthly for years.
key_changes_max: Final = 64
# Yanks and advisories of one source that are kept: a publisher of 500 plugins who yanks one release of each.
notices_per_source_max: Final = 1_000
# Notices that one answer of a publisher, or one request that hands some in, may bring: each costs two signatures.
notices_at_once_max: Final = 256
# Release keys that a source may have had, each with its keybind.
keybinds_max: Final = 32

# --- Evidence bundles -----------------------------------------------------------------------------------------------

# Two signed texts of a megabyte and all announcements, in base64; more is no bundle, and is not parsed.
bundle_bytes_max: Final = 4_194_304
# Each form once, and a few more: the same release signed by a former and a present release key.
bundle_pieces_max: Final = 16
# Three witnesses prove all that witnesses can prove; more show how widely it was seen. 350 KB at most.
bundle_witnesses_max: Final = 64
bundle_attestations_max: Final = 16
# All changes of key and all keybinds that a node keeps of a source (key_changes_max, keybinds_max).
bundle_keys_max: Final = 96
# One yank, and more advisories than any release has that somebody still installs. 128 KB at most.
bundle_notices_max: Final = 64

# --- Messages between nodes -----------------------------------------------------------------------------------------

# Honest clocks agree within seconds; a request is remembered (by its nonce) for longer than it is valid.
skew_ms_max: Final = 120_000
nonce_memory_ms: Final = 300_000
# What envelope, path, nonce and list headers add to the content of a message.
message_overhead_bytes: Final = 16_384
# Bodies that ride in one gossip message (either way): small enough to leave a slow link in a second.
gossip_bytes_max: Final = 262_144
# Bodies in one answer to fetch or snapshot; what does not fit is asked for again.
bodies_bytes_max: Final = 1_048_576
request_bytes_max: Final = gossip_bytes_max + message_overhead_bytes * 4
answer_bytes_max: Final = bodies_bytes_max + message_overhead_bytes * 4
gossip_push_max: Final = 512
gossip_ids_max: Final = 1_024
# How long an answer may be held open for a node without a URL; under the usual 30 s of proxies.
wait_seconds_max: Final = 25
# As many as a node keeps passive neighbours.
view_max: Final = 64
# Authors whose announcements one side of a link does not want.
left_out_max: Final = 512
back_off_seconds_max: Final = 86_400
fetch_ids_max: Final = 256
# The announcements asked for, and the node announcement of each one's author.
fetch_bodies_max: Final = 2 * fetch_ids_max
authors_page_max: Final = 1_024
# All of one author, at 16 bytes each: 256 KB.
ids_page_max: Final = 16_384
# Verified in 50 ms: whoever is filled does other things in between, and soon knows who is slow.
snapshot_page_max: Final = 512
have_max: Final = 256
refusal_rule_chars_max: Final = 16
refusal_sentence_chars_max: Final = 500

# --- The set --------------------------------------------------------------------------------------------------------

# Slots that one author may fill: reachable over pins it may be a large mirror, sponsored it is a newcomer.
slots_pinned_max: Final = 5_000
slots_sponsored_max: Final = 256

# --- The set, links, gossip, reconciliation -------------------------------------------------------------------------

# Distinct paths that are compared in pairs when two observers at depth are to back a digest: 130,000 pairs at most.
disjoint_paths_max: Final = 512
# Twice the mesh that this protocol is measured with; the nearest are admitted first.
admitted_authors_max: Final = 20_000
# Announcements of authors not admitted are kept aside: enough for a newcomer's first minutes; 16 MB at most.
parked_per_author_max: Final = 64
parked_max: Final = 4_096
# Announcements from the future are kept aside in memory only; a wrong clock sends few before it is mended.
future_per_author_max: Final = 64
future_max: Final = 1_024

# Links over which news is pushed, in a mesh of ordinary size and in a large one. With eight neighbours each, four of
# which the node chose itself, a mesh of thousands stays in one piece when a part of it dies.
links_wanted_max: Final = 8
links_wanted_large_max: Final = 12
large_mesh_nodes: Final = 1_000
links_outbound_min: Final = 4
# Links more than it wants that a node takes from others with a URL: newcomers find a place in a mesh that is full.
links_spare_max: Final = 4
# Links that it has in all: nodes without a URL cannot find each other, so those with one take more than they look for.
links_max: Final = 32
# A node waits this long for others to ask before it looks for more links than it must choose itself.
links_fill_ms: Final = 2_000
# Links that are there to compare sets only: they heal partitions, and an eclipse of all others.
compare_links_max: Final = 2
# As many while it has no link to any of those that it joined or pins, for all others may be one attacker's: if one
# address in ten leads to an honest node that is there and has room, one in 850 such choices finds none.
compare_links_alone_max: Final = 64
# With a link, not a quarter of a day old, to the only one that there is: it may end at any moment (bench eclipse).
compare_links_reserve_max: Final = 16
link_young_ms: Final = 21_600_000
# Links for comparing taken from others: half of links_max, so that newcomers find room meanwhile.
compare_links_taken_max: Final = 16
compare_again_ms: Final = 600_000
# The longest proven peers, of which one (or a pin, or a join) is always among those.
anchors_max: Final = 10
# Proven peers without a link that are remembered.
passive_max: Final = 64
# Peers without a link, proven or from hearsay: what views name beyond that is not noted.
peers_unlinked_max: Final = 2 * passive_max
# Of one network (/16, /32, or domain): keys cost nothing, networks do. Two, for an operator moves from one to the next.
peers_per_group_max: Final = 2
# Samples of the own view are exchanged, and an address from hearsay is tried, this often.
shuffle_ms: Final = 60_000
# Nodes whose address is known; more than a mesh of ordinary size, and a bound to what views can make us remember.
peers_known_max: Final = 1_024
# Neighbours named in a link request or answer: enough to find the rest of the mesh from one node.
view_sample_max: Final = 16
# A failed dial is repeated after 1 s, then twice as long each time, never rarer than every 5 minutes.
dial_again_ms_min: Final = 1_000
dial_again_ms_max: Final = 300_000
# Failed requests in a row after which a link counts as dead; one or two are lost packets or a restart.
link_failures_max: Final = 3
# A refused asker is told to come back after this; long enough that refusing costs little.
link_full_back_off_seconds: Final = 60
# A node that sent what cannot come about by accident is left alone for this long.
shunned_ms: Final = 600_000
# Announcements of a link that broke a rule, after which it is treated as hostile; other versions of the software err.
link_faults_max: Final = 64
# A neighbour without a URL asks again at once when its 25 s are over; silent for longer than this, it is gone.
silent_link_ms_max: Final = 90_000
# An address that never answered is forgotten after as many dials; hearsay is cheap to hear again.
dials_of_hearsay_max: Final = 6
# A node that was reached once is forgotten after a week of silence, unless it is pinned or was joined.
peer_memory_ms: Final = 7 * 86_400_000
# A node that was let in and was not heard of for a day no longer takes one of the places.
sponsored_memory_ms: Final = 86_400_000

# The node announcement is renewed four times in its lifetime.
node_renewal_ms: Final = 21_600_000
# Changes of URL, pins and sponsored nodes within a second are told once.
node_change_wait_ms: Final = 1_000
# How long the first own announcement waits for what neighbours remember of this node.
read_back_ms_max: Final = 5_000
read_back_peers_max: Final = 3
# Pages of 1 MB of own announcements read back from one neighbour; 5,000 slots of 4 KB are twenty of them.
read_back_pages_max: Final = 32
# Statements waiting for the first announcement after a start, one per slot.
statements_waiting_max: Final = 8_192

# Ids waiting for one neighbour; what does not fit is found by reconciliation.
outbox_ids_max: Final = 1_024
# Bodies in one message; the ids and the envelope come on top of it, up to gossip_bytes_max.
push_bytes_max: Final = 229_376
# A message of the tree that gets no answer blocks its link: it is waited for as long as four round trips, a second at
# least, and twice as long after each failure in a row, for the other side may be slow.
push_patience_round_trips: Final = 4
push_patience_ms_min: Final = 1_000
push_patience_ms_max: Final = 10_000
# Ids offered in one message, and ids told in one: with the bodies they fit gossip_bytes_max.
offered_ids_max: Final = 256
# Ids wait for a message to go with, and for the neighbour to tell them first: as long as chance says between these two.
# Neighbours get news within one hop's delay of each other, so if they waited equally long both would tell, in vain.
# The longer they wait the more of them share a message; but what the tree lost is not asked for before.
ids_wait_ms_min: Final = 100
ids_wait_ms_max: Final = 2_000
# Ids that were told and whose bodies do not come: how many are waited for, and how often each is asked for. If a fifth
# of all requests and of all answers is lost, twelve attempts fail once in 200,000 times.
pulls_waiting_max: Final = 4_096
pulls_per_id_max: Final = 12
# An id's body is asked for after as many times the median delay of a hop, at least a second, and up to half as long
# again: a push that is under way, or is repeated after a loss, comes first.
pull_hops: Final = 4
pull_wait_ms_min: Final = 1_000
pull_jitter: Final = 0.5
# Bodies in a row that had to be pulled before the link that had them becomes a branch of the tree.
misses_before_graft: Final = 2
# A neighbour that told an id so many hops before the body came over the tree is nearer: it becomes the branch.
shortcut_hops: Final = 4
# Ids remembered with the way their first copy came, to tell a copy too many from one that was asked for.
arrivals_remembered_max: Final = 4_096
# Neighbours tell each other how their sets stand.
status_interval_ms: Final = 10_000
# New announcements of one author that are passed on at once; the rest is left to reconciliation, never refused.
author_rate_per_second: Final = 5
author_burst_max: Final = 256
# Authors whose rate is remembered; a forgotten one starts with a full burst.
author_rates_max: Final = 4_096
# Envelopes remembered as seen, so that the same bytes over several links are verified once.
seen_envelopes_max: Final = 16_384

# A difference seen in a status waits for the pushes in flight before it is looked into.
reconciliation_wait_ms: Final = 2_000
# Pages of authors in one round; with 1,024 each that is more than admitted_authors_max.
authors_pages_max: Final = 32
# Pages of ids of one author, or of everybody, in one round: two million ids; those of an author are one.
ids_pages_max: Final = 128
# Fetches in one round; a million announcements come in so many, and what is left is found by the next round.
round_fetches_max: Final = 4_096
# Bodies in one answer to fetch or snapshot; ids and the envelope come on top of it.
page_bytes_max: Final = 1_024_000
# How long after a node announcement what it counts may still be on its way: a status, the wait after it, and a round.
completeness_wait_ms: Final = 20_000
# What an author says that it has costs it nothing; so it does not make others compare sets more often than this.
incomplete_looks_ms_min: Final = 600_000
# What was asked for over one link is not asked for over another for so long; who is slow shall not keep it from others.
fetch_shared_ms_max: Final = 3_000
# A round that takes longer ends; what is left is found by the next one, perhaps with another neighbour.
round_ms_max: Final = 600_000
# How long the answer to one request of a round is waited for: an engine says within some ten seconds that none came.
round_answer_ms_max: Final = 60_000

# --- Sketches (SPEC.md, chapter 8) ----------------------------------------------------------------------------------

# The first 16 bytes of an id, a checksum of 4, a count of 1: two of a million ids share 16 bytes once in 10^26 sets.
sketch_id_bytes: Final = 16
sketch_cell_bytes: Final = 21
# The first batch of a round: decodes differences of up to a dozen in one round trip, with 672 bytes.
sketch_first_cells: Final = 32
# Cells that a prefix is built with; they decode 2,800 differences. It grows fourfold, up to 175,000 differences: beyond
# that pages of ids do it, which cost 16 bytes an id of the set where cells cost 30 an id of the difference.
sketch_cells_min: Final = 4_096
sketch_cells_max: Final = 262_144
# Cells in one answer: 1,032,192 bytes, under answer_bytes_max.
sketch_batch_max: Final = 49_152
# Estimates in one round; the second one is right, nearly always.
sketch_tries_max: Final = 6
# Over this the first cells say no more than "many": counts modulo 256 are saturated. So many as follow see further.
sketch_guess_max: Final = 40_000
sketch_second_cells: Final = 512
# Cells that an estimate is made of; more would not make it better, and take longer.
sketch_estimated_max: Final = 4_096
# What the longest sketch decodes, with some to spare.
sketch_difference_max: Final = 175_000
# More cells than these are decoded outside of the event loop: 8,192 take 30 ms, the longest sketch a second.
sketch_inline_cells_max: Final = 8_192
# A difference up to this is added up to verify the round (40 ms); of a larger one the next status says it.
sketch_verified_max: Final = 10_000
# The state that a round began with stands for this long after every answer: a megabyte of cells on a slow line.
sketch_frozen_ms: Final = 30_000
# A prefix is kept up to date by the log of changes, so that age does no harm; a day bounds what a mistake could do.
sketch_prefix_ms_max: Final = 86_400_000
# Changes of the set that are remembered for prefixes: what is further behind is built anew. 32,768 take 100 ms.
sketch_changes_max: Final = 32_768
# Builds of prefixes for nodes that nobody here pins, together. One of a million ids takes 3 s of a thread.
sketch_builds_per_hour_max: Final = 6
# A set up to this size is built in 15 ms: such a build is not counted.
sketch_small_set_max: Final = 4_096
# Builds that wait for their turn, on top of the one that is under way: a request waits for 10 s at most.
sketch_builds_waiting_max: Final = 2
# Cells served over one link in an hour: twice the longest prefix, 11 MB.
sketch_cells_per_hour_max: Final = 524_288
# Artifacts of one source whose mirrors are compared by cells: made in 60 ms. Sources that release more are rare.
mirror_set_max: Final = 16_384
mirror_cells_max: Final = 32_768
# A link's secret, and what of it a request for cells names.
salt_bytes: Final = 32
salt_name_bytes: Final = 4
# What of a list of authors is compared: 8 bytes, with the other side of a link only.
scope_bytes: Final = 8
# Lists of authors are told over a link this often at most; they change with every node that comes or goes.
tell_authors_ms_min: Final = 10_000
# A difference that stays is looked into again after an hour: what was in its way may be gone.
unresolved_ms: Final = 3_600_000
# Rounds that brought nothing are repeated after 10 s, then twice as long each time, never rarer than every 30 minutes.
reconciliation_quiet_ms_min: Final = 10_000
reconciliation_quiet_ms_max: Final = 1_800_000
# A node takes a snapshot if the other has so many announcements, and sixteen times as many: few come in vain.
snapshot_set_min: Final = 256
snapshot_ratio_min: Final = 16
# Parts that the ids are cut into: more than there are neighbours, so that fast ones give more; each worth a request.
snapshot_parts_max: Final = 32
snapshot_part_min: Final = 128
# A page is at most a megabyte; who has not answered by then is no help. Longer than an engine waits for an answer.
snapshot_page_ms_max: Final = 15_000
# How long a neighbour may take for a part before another one may go on with it.
snapshot_part_ms_max: Final = 30_000
# How long a neighbour that gave its part back is left in peace.
snapshot_rest_ms: Final = 10_000
# If nobody brought anything for so long, rounds take over: they need less of a neighbour at once.
snapshot_idle_ms_max: Final = 120_000
# A part that should have so many announcements has half of them, unless something is withheld: ids are spread evenly.
snapshot_withheld_min: Final = 64
# Pages of one snapshot from one neighbour: over two million announcements. Others give the rest, or rounds find it.
snapshot_pages_max: Final = 4_608
# Of two neighbours the one with the smaller id looks into a difference at once; the other one leaves it this time.
reconciliation_second_ms: Final = 1_000
# Ids that a neighbour was offered over a link, and does not seem to want.
offered_remembered_max: Final = 4_096

# --- Assurance over time --------------------------------------------------------------------------------------------

# Three observers who agree, of whom one alone could not be bought, nor two with keys that cost nothing (R150).
witnesses_min: Final = 3
witnesses_trusted_min: Final = 2
# Heads of one source: its identity key, the release key of today, those before it, and one for a mistake.
heads_per_source_max: Final = 8
# A source that nobody whose word counts has verified for two days may say anything by now (R152).
stale_seconds: Final = 48 * 3_600
# A digest on others' word is looked at again at the publisher within a day: five nodes of all that hold it are enough
# to find out, a tenth of them in any case, since holders can be pretended (R155).
refetch_seconds_max: Final = 86_400
refetch_nodes_wanted: Final = 5
refetch_share_min: Final = 0.1
# Within the hour, with time left to be noticed and done.
refetch_disputed_seconds_max: Final = 3_000
# One download a minute of all re-fetches from one host; a day has room for 1,440.
refetch_host_seconds_min: Final = 60
