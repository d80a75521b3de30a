<?php
/**
 * One plugin of one source, and a version of it.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

defined( 'ABSPATH' ) || exit;

/**
 * Names a release where WordPress has room for one text only.
 *
 * WordPress knows a plugin by its slug; here two sources may have the same. So the slug that WordPress is given holds the
 * source, as hex, and what it is given as the URL of a package is none: without the connector nothing can be fetched by it.
 */
class Release {

	const SLUG    = '/^pfn-((?:[0-9a-f]{2})+)-([a-z0-9][a-z0-9_-]*)$/D';
	const PACKAGE = '/^pfn:(pfn-[0-9a-z_-]+)\/([0-9A-Za-z][0-9A-Za-z.+_-]*)$/D';
	const VERSION = '/^[0-9A-Za-z][0-9A-Za-z.+_-]*$/D';

	/**
	 * Who publishes it: username@host.
	 *
	 * @var string
	 */
	public $source;

	/**
	 * The publisher's name of it, which is that of its folder too.
	 *
	 * @var string
	 */
	public $plugin;

	/**
	 * Empty: of any version.
	 *
	 * @var string
	 */
	public $version;

	/**
	 * Names a release.
	 *
	 * @param string $source  username@host.
	 * @param string $plugin  The publisher's name of it.
	 * @param string $version Empty: of any version.
	 */
	public function __construct( $source, $plugin, $version = '' ) {
		$this->source  = $source;
		$this->plugin  = $plugin;
		$this->version = $version;
	}

	/**
	 * The plugin that a slug names.
	 *
	 * @param string $slug Any slug.
	 * @return self|null Null: it is not one of the connector's.
	 */
	public static function from_slug( $slug ) {
		return preg_match( self::SLUG, $slug, $found ) ? new self( (string) hex2bin( $found[1] ), $found[2] ) : null;
	}

	/**
	 * The release that a package names.
	 *
	 * @param string $package Any package.
	 * @return self|null Null: it is not one of the connector's.
	 */
	public static function from_package( $package ) {
		$release = preg_match( self::PACKAGE, $package, $found ) ? self::from_slug( $found[1] ) : null;
		if ( null !== $release ) {
			$release->version = $found[2];
		}
		return $release;
	}

	/**
	 * The slug for WordPress.
	 *
	 * @return string
	 */
	public function slug() {
		return 'pfn-' . bin2hex( $this->source ) . '-' . $this->plugin;
	}

	/**
	 * The package for WordPress.
	 *
	 * @return string
	 */
	public function package() {
		return 'pfn:' . $this->slug() . '/' . $this->version;
	}
}
