<?php
/**
 * What publishers sign.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

use SodiumException;

defined( 'ABSPATH' ) || exit;

/**
 * Opens the envelopes of the protocol's publisher profile: msgpack of [1, domain, author, body, signature], where the
 * signature is the author's over the domain and the body. The body is msgpack too, of lists, texts, bytes and integers.
 */
class Envelope {

	const BYTES_MAX = 65536;
	const DEPTH_MAX = 4;

	/**
	 * Who signed: 32 bytes.
	 *
	 * @var string
	 */
	public $author;

	/**
	 * What was signed.
	 *
	 * @var array
	 */
	public $fields;

	/**
	 * Opens an envelope of a publisher.
	 *
	 * @param string $raw    Its bytes.
	 * @param string $domain What it has to be: pfn/release/2 and so on.
	 * @param int    $count  How many fields its body has.
	 * @return self|null Null: it is not one, or its signature does not verify.
	 */
	public static function open( $raw, $domain, $count ) {
		$shape = strlen( $raw ) <= self::BYTES_MAX ? self::decode( $raw ) : null;
		if ( ! is_array( $shape ) || 5 !== count( $shape ) || 1 !== $shape[0] || $domain !== $shape[1] ) {
			return null;
		}
		list( , , $author, $body, $signature ) = $shape;
		if ( ! is_string( $author ) || ! is_string( $body ) || ! is_string( $signature ) ) {
			return null;
		}
		$fields = self::decode( $body );
		if ( ! self::verifies( $author, self::preimage( $domain, $body ), $signature ) || ! is_array( $fields ) || count( $fields ) !== $count ) {
			return null;
		}
		$envelope         = new self();
		$envelope->author = $author;
		$envelope->fields = $fields;
		return $envelope;
	}

	/**
	 * The release key and the identity key of a keybind that both keys signed.
	 *
	 * @param string $raw Its bytes.
	 * @return string[]|null identity, release, origin.
	 */
	public static function open_keybind( $raw ) {
		$envelope = self::open( $raw, 'pfn/keybind/2', 4 );
		if ( null === $envelope || $envelope->author !== $envelope->fields[2] ) {
			return null;
		}
		list( $origin, $identity, $release, $signature ) = $envelope->fields;
		if ( ! is_string( $origin ) || ! is_string( $identity ) || ! is_string( $signature ) || 32 !== strlen( $identity ) ) {
			return null;
		}
		$signed = "\x93" . self::text( $origin ) . "\xc4\x20" . $identity . "\xc4\x20" . $release;
		return self::verifies( $identity, self::preimage( 'pfn/keybind/2', $signed ), $signature ) ? compact( 'identity', 'release', 'origin' ) : null;
	}

	/**
	 * The bytes that base64 stands for.
	 *
	 * @param mixed $text Base64.
	 * @return string Empty: it is none.
	 */
	public static function bytes( $text ) {
		return is_string( $text ) ? (string) base64_decode( $text, true ) : '';
	}

	/**
	 * The bytes that are signed. It begins with a byte that no text begins with, and publishers are of no mesh.
	 *
	 * @param string $domain What is signed.
	 * @param string $body   Its bytes.
	 * @return string
	 */
	private static function preimage( $domain, $body ) {
		return "\xffPFN\x01" . pack( 'n', 0 ) . pack( 'n', strlen( $domain ) ) . $domain . pack( 'N', strlen( $body ) ) . $body;
	}

	/**
	 * Whether a signature is a key's over a message.
	 *
	 * @param string $key       32 bytes.
	 * @param string $message   What was signed.
	 * @param string $signature 64 bytes.
	 * @return bool
	 */
	private static function verifies( $key, $message, $signature ) {
		try {
			return sodium_crypto_sign_verify_detached( $signature, $message, $key );
		} catch ( SodiumException $error ) { // Of a wrong length, or no key.
			return false;
		}
	}

	/**
	 * A text as msgpack writes it.
	 *
	 * @param string $text Up to 65535 bytes.
	 * @return string
	 */
	private static function text( $text ) {
		$length = strlen( $text );
		if ( $length < 32 ) {
			return chr( 0xa0 | $length ) . $text;
		}
		return ( $length < 256 ? "\xd9" . chr( $length ) : "\xda" . pack( 'n', $length ) ) . $text;
	}

	/**
	 * The one value that these bytes are, whole.
	 *
	 * @param string $bytes Msgpack.
	 * @return mixed Null for what is none, or of a kind that is not used.
	 */
	private static function decode( $bytes ) {
		$at    = 0;
		$value = self::read( $bytes, $at, self::DEPTH_MAX );
		return strlen( $bytes ) === $at ? $value : null;
	}

	/**
	 * Reads one value. After anything that cannot be read, the place is behind the end.
	 *
	 * @param string $bytes Msgpack.
	 * @param int    $at    Where it begins; then where it ended.
	 * @param int    $depth How many lists may still be nested.
	 * @return mixed
	 */
	private static function read( $bytes, &$at, $depth ) {
		$kind = ord( self::take( $bytes, $at, 1 ) );
		if ( $kind < 0x80 ) {
			return $kind;
		}
		if ( $kind >= 0xa0 && $kind < 0xc0 ) {
			return self::take( $bytes, $at, $kind & 0x1f );
		}
		if ( $kind >= 0x90 && $kind < 0xa0 && $depth > 0 ) {
			$items = array();
			for ( $left = $kind & 0x0f; $left > 0; $left-- ) {
				$items[] = self::read( $bytes, $at, $depth - 1 );
			}
			return $items;
		}
		// The kinds whose first bytes are a number, and how many bytes that has.
		$widths = array(
			0xc4 => 1,
			0xc5 => 2,
			0xc6 => 4,
			0xcc => 1,
			0xcd => 2,
			0xce => 4,
			0xcf => 8,
			0xd9 => 1,
			0xda => 2,
			0xdb => 4,
		);
		if ( isset( $widths[ $kind ] ) ) {
			$number = (int) hexdec( bin2hex( self::take( $bytes, $at, $widths[ $kind ] ) ) );
			return $kind >= 0xcc && $kind <= 0xcf ? $number : self::take( $bytes, $at, $number );
		}
		if ( 0xc2 === $kind || 0xc3 === $kind ) {
			return 0xc3 === $kind;
		}
		$at = PHP_INT_MAX;
		return null;
	}

	/**
	 * Takes so many bytes.
	 *
	 * @param string $bytes  All.
	 * @param int    $at     Where they begin; then where they ended.
	 * @param int    $length How many.
	 * @return string Empty if there are not so many.
	 */
	private static function take( $bytes, &$at, $length ) {
		if ( $length > strlen( $bytes ) - $at ) {
			$at = PHP_INT_MAX;
			return '';
		}
		$at += $length;
		return substr( $bytes, $at - $length, $length );
	}
}
