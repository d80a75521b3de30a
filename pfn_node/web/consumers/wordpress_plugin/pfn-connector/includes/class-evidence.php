<?php
/**
 * What a node gives as evidence.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

defined( 'ABSPATH' ) || exit;

/**
 * An evidence bundle (pfn-evidence/2) about one release, read.
 *
 * The bundle itself proves nothing: whoever made it could have put anything in, or left anything out. What counts is what
 * the publisher signed, and only its envelopes that verify are kept here.
 */
class Evidence {

	const FORMAT  = 'pfn-evidence/2';
	const ROTATE  = 'pfn/rotate/2';
	const REVOKE  = 'pfn/revoke/2';
	const CHANGES = array( // How many fields each has.
		self::ROTATE => 11,
		self::REVOKE => 5,
	);
	const MEMBERS = array( 'attestations', 'evidence', 'format', 'instance_url', 'keys', 'mesh', 'notices', 'oracle', 'plugin_id', 'public_key', 'sha256', 'size', 'source_id', 'version', 'witnesses' );

	/**
	 * The identity key that the bundle claims for the source: 32 bytes.
	 *
	 * @var string
	 */
	public $key;

	/**
	 * The digest that it claims for the release, in hex.
	 *
	 * @var string
	 */
	public $sha256;

	/**
	 * The bytes that it claims for the release.
	 *
	 * @var int
	 */
	public $size;

	/**
	 * What it says that the publisher signs for anybody: none, utf8 (texts), raw (any bytes); empty: not known.
	 *
	 * @var string
	 */
	private $oracle;

	/** Which release it is about. @var Release */
	private $release;

	/**
	 * The release statements about exactly this release and these bytes.
	 *
	 * @var Envelope[]
	 */
	private $statements = array();

	/**
	 * Which keys identity keys let speak: identity, release, origin.
	 *
	 * @var array[]
	 */
	private $keybinds = array();

	/**
	 * What else was signed about keys of this source, by domain.
	 *
	 * @var array[]
	 */
	private $changes = array(
		self::ROTATE => array(),
		self::REVOKE => array(),
	);

	/**
	 * The yanks of this release.
	 *
	 * @var Envelope[]
	 */
	private $yanks = array();

	/**
	 * Reads a bundle.
	 *
	 * @param Release $release What it has to be about.
	 * @param mixed   $bundle  What a node says.
	 * @return self|null Null: it is none, or about another release.
	 */
	public static function read( Release $release, $bundle ) {
		$evidence = new self();
		if ( ! is_array( $bundle ) || ! $evidence->read_claims( $release, $bundle ) || ! $evidence->read_keys( $bundle['keys'] ) ) {
			return null;
		}
		foreach ( $bundle['evidence'] as $piece ) {
			if ( isset( $piece['form'], $piece['data'] ) && 'release/2' === $piece['form'] ) {
				$evidence->read_statement( Envelope::bytes( $piece['data'] ) );
			} elseif ( isset( $piece['form'], $piece['data'] ) && 'keybind/2' === $piece['form'] ) {
				$evidence->keybinds[] = Envelope::open_keybind( Envelope::bytes( $piece['data'] ) );
			}
		}
		foreach ( $bundle['notices'] as $notice ) {
			$yank = Envelope::open( Envelope::bytes( $notice ), 'pfn/yank/2', 7 );
			if ( null !== $yank && $evidence->is_of_source( $yank ) && array( $release->plugin, $release->version ) === array( $yank->fields[2], $yank->fields[3] ) ) {
				$evidence->yanks[] = $yank;
			}
		}
		return $evidence;
	}

	/**
	 * The key that a bundle claims for its source.
	 *
	 * @param mixed $bundle What a node says.
	 * @return string 32 bytes; empty if it names none.
	 */
	public static function key_of( $bundle ) {
		$key = isset( $bundle['public_key'] ) ? Envelope::bytes( $bundle['public_key'] ) : '';
		return 32 === strlen( $key ) ? $key : '';
	}

	/**
	 * Whether the publisher's signature covers exactly these bytes as this release.
	 *
	 * A publisher that is said to sign any bytes for anybody, or of which that is not known, proves nothing by it.
	 *
	 * @return bool
	 */
	public function is_signed() {
		if ( ! in_array( $this->oracle, array( 'none', 'utf8' ), true ) ) {
			return false;
		}
		foreach ( $this->statements as $statement ) {
			if ( $this->speaks( $statement ) ) {
				return true;
			}
		}
		return false;
	}

	/**
	 * The key by which the publisher says that its key is followed.
	 *
	 * Whether it may say so is not asked: whoever is not sure which key is meant must not go on.
	 *
	 * @return string 32 bytes; empty: none.
	 */
	public function successor() {
		foreach ( $this->changes[ self::ROTATE ] as $rotation ) {
			list( , , $role, $old, $new, , , $effective ) = $rotation->fields;
			if ( 'identity' === $role && $old === $this->key && $new !== $old && $rotation->author === $new && $effective <= time() ) {
				return $new;
			}
		}
		return '';
	}

	/**
	 * Whether the publisher revoked its identity key, or the key that signed the release; each may say so of itself.
	 *
	 * @return bool
	 */
	public function is_revoked() {
		$signers = array( $this->key );
		foreach ( $this->statements as $statement ) {
			$signers[] = $statement->author;
		}
		foreach ( $this->changes[ self::REVOKE ] as $revocation ) {
			$revoked = $revocation->fields[2];
			if ( in_array( $revoked, $signers, true ) && in_array( $revocation->author, array( $this->key, $revoked ), true ) ) {
				return true;
			}
		}
		return false;
	}

	/**
	 * Whether the publisher says last that this release should not be installed.
	 *
	 * @return bool
	 */
	public function is_yanked() {
		$yanked = false;
		$last   = -1;
		foreach ( $this->yanks as $yank ) {
			list( , , , , , $at, $withdrawn ) = $yank->fields;
			if ( ! is_int( $at ) || ! $this->speaks( $yank ) || $at < $last ) {
				continue;
			}
			$yanked = ( true !== $withdrawn ) || ( $at === $last && $yanked );
			$last   = $at;
		}
		return $yanked;
	}

	/**
	 * Reads what the bundle states without proof.
	 *
	 * @param Release $release What it has to be about.
	 * @param array   $bundle  What a node says.
	 * @return bool Whether it is well-formed, and about this release.
	 */
	private function read_claims( Release $release, $bundle ) {
		ksort( $bundle );
		if ( array_keys( $bundle ) !== self::MEMBERS || self::FORMAT !== $bundle['format'] ) {
			return false;
		}
		$about         = array( $bundle['source_id'], $bundle['plugin_id'], $bundle['version'] );
		$this->release = $release;
		$this->key     = self::key_of( $bundle );
		$this->sha256  = $bundle['sha256'];
		$this->size    = $bundle['size'];
		$this->oracle  = $bundle['oracle'];
		return array( $release->source, $release->plugin, $release->version ) === $about && '' !== $this->key
			&& is_string( $this->sha256 ) && 1 === preg_match( '/^[0-9a-f]{64}$/D', $this->sha256 )
			&& is_int( $this->size ) && $this->size > 0
			&& is_array( $bundle['evidence'] ) && is_array( $bundle['keys'] ) && is_array( $bundle['notices'] );
	}

	/**
	 * Reads what was signed about keys.
	 *
	 * @param array $keys What a node says.
	 * @return bool Whether all of it can be read: what cannot might say that a key is not to be trusted any more.
	 */
	private function read_keys( $keys ) {
		foreach ( $keys as $given ) {
			$raw     = Envelope::bytes( $given );
			$keybind = Envelope::open_keybind( $raw );
			$read    = null !== $keybind;
			if ( $read ) {
				$this->keybinds[] = $keybind;
			}
			foreach ( self::CHANGES as $domain => $count ) {
				$change = Envelope::open( $raw, $domain, $count );
				$read   = $read || null !== $change;
				if ( null !== $change && $this->is_of_source( $change ) ) {
					$this->changes[ $domain ][] = $change;
				}
			}
			if ( ! $read ) {
				return false;
			}
		}
		return true;
	}

	/**
	 * Keeps a release statement if it is about exactly this release and these bytes.
	 *
	 * @param string $raw Its bytes.
	 */
	private function read_statement( $raw ) {
		$statement = Envelope::open( $raw, 'pfn/release/2', 9 );
		if ( null === $statement || ! $this->is_of_source( $statement ) ) {
			return;
		}
		$asked = array( $this->release->plugin, $this->release->version, hex2bin( $this->sha256 ), $this->size );
		if ( array_slice( $statement->fields, 2, 4 ) === $asked ) {
			$this->statements[] = $statement;
		}
	}

	/**
	 * Whether an envelope names this source: an author at a publisher's URL.
	 *
	 * @param Envelope $envelope Whose first fields are the URL and the author.
	 * @return bool
	 */
	private function is_of_source( Envelope $envelope ) {
		list( $origin, $author ) = $envelope->fields;
		return is_string( $origin ) && is_string( $author ) && 1 === preg_match( '~^https?://([^/?#@\s]+)~', $origin, $found )
			&& $author . '@' . $found[1] === $this->release->source;
	}

	/**
	 * Whether an envelope was signed by the identity key, or by one that this lets speak at the envelope's origin.
	 *
	 * @param Envelope $envelope Whose first field is the origin.
	 * @return bool
	 */
	private function speaks( Envelope $envelope ) {
		$bind = array(
			'identity' => $this->key,
			'release'  => $envelope->author,
			'origin'   => $envelope->fields[0],
		);
		return $envelope->author === $this->key || in_array( $bind, $this->keybinds, true );
	}
}
