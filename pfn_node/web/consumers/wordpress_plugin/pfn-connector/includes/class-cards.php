<?php
/**
 * Plugins of the federation as WordPress shows them.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

defined( 'ABSPATH' ) || exit;

/**
 * Makes what WordPress shows of what a node says, which may be anything: every text is escaped here.
 */
class Cards {

	const SIGNED = array( 'A3', 'A4' );

	/**
	 * What is trusted and remembered.
	 *
	 * @var Settings
	 */
	private $settings;

	/**
	 * Keeps what it needs.
	 *
	 * @param Settings $settings What is trusted and remembered.
	 */
	public function __construct( Settings $settings ) {
		$this->settings = $settings;
	}

	/**
	 * Whether an answer has what is read of a plugin here.
	 *
	 * @param mixed $row What a node says.
	 * @return bool
	 */
	public static function is_row( $row ) {
		foreach ( array( 'source_id', 'plugin_id', 'name', 'version', 'assurance' ) as $text ) {
			if ( ! isset( $row[ $text ] ) || ! is_string( $row[ $text ] ) ) {
				return false;
			}
		}
		$release = new Release( $row['source_id'], $row['plugin_id'], $row['version'] );
		return isset( $row['type'] ) && 'plugin' === $row['type'] && array_key_exists( 'yanked', $row ) && array_key_exists( 'taken_down', $row )
			&& isset( $row['backed'], $row['revoked_key'] )
			&& null !== Release::from_slug( $release->slug() ) && null !== Release::from_package( $release->package() );
	}

	/**
	 * Whether a node says that the publisher signed the bytes.
	 *
	 * @param array $row What a node says of a plugin.
	 * @return bool
	 */
	public static function is_signed( $row ) {
		return in_array( $row['assurance'], self::SIGNED, true );
	}

	/**
	 * The picture beside every plugin: one that every WordPress has, so that no publisher learns who looks.
	 *
	 * @return string URL.
	 */
	public static function icon() {
		return includes_url( 'images/crystal/code.png' );
	}

	/**
	 * A row as WordPress shows it in its table.
	 *
	 * @param array $row What a node says of a plugin.
	 * @return array
	 */
	public function card( $row ) {
		$release = new Release( $row['source_id'], $row['plugin_id'], $row['version'] );
		$seen    = isset( $row['observed_at'] ) && is_int( $row['observed_at'] ) && $row['observed_at'] > 0 ? $row['observed_at'] : time();
		return array(
			'name'              => esc_html( $row['name'] ),
			'slug'              => $release->slug(),
			'version'           => $release->version,
			'author'            => esc_html( $row['source_id'] ) . '<br><strong>' . esc_html( self::badge( $row ) ) . '</strong>',
			'short_description' => isset( $row['description'] ) && is_string( $row['description'] ) ? esc_html( $row['description'] ) : '',
			'icons'             => array( 'default' => self::icon() ),
			'rating'            => 0,
			'num_ratings'       => 0,
			'active_installs'   => 0,
			'last_updated'      => gmdate( 'Y-m-d H:i:s', $seen ) . ' GMT',
			'download_link'     => '' === $this->why_not( $row ) ? $release->package() : '',
			'pfn_why_not'       => $this->why_not( $row ),
		);
	}

	/**
	 * Why a release is not installed, in a few words.
	 *
	 * @param array $row What a node says of a plugin.
	 * @return string Empty: it may be.
	 */
	public function why_not( $row ) {
		if ( ! $row['backed'] || null !== $row['taken_down'] || $row['revoked_key'] ) {
			return __( 'Not served', 'pfn-connector' );
		}
		if ( null !== $row['yanked'] ) {
			return __( 'Yanked: it should not be installed', 'pfn-connector' );
		}
		return self::is_signed( $row ) || $this->settings->allows_unsigned() ? '' : __( 'Not allowed: unsigned (see Settings > Plugin Federation)', 'pfn-connector' );
	}

	/**
	 * What is known of the bytes, in a few words.
	 *
	 * @param array $row What a node says of a plugin.
	 * @return string
	 */
	private static function badge( $row ) {
		$says = array(
			'A1' => __( 'A1: only the node vouches for the bytes', 'pfn-connector' ),
			'A2' => __( 'A2: three nodes saw the same bytes', 'pfn-connector' ),
			'A3' => __( 'A3: signed by the publisher', 'pfn-connector' ),
			'A4' => __( 'A4: signed by the publisher, and seen by three nodes', 'pfn-connector' ),
		);
		return isset( $says[ $row['assurance'] ] ) ? $says[ $row['assurance'] ] : $row['assurance'];
	}

	/**
	 * What is known of a release, for its details.
	 *
	 * @param array $row What a node says of a plugin.
	 * @return string HTML.
	 */
	public function evidence( $row ) {
		$key   = $this->settings->trusted_key( $row['source_id'] );
		$lines = array(
			__( 'Publisher', 'pfn-connector' )        => $row['source_id'],
			__( 'Assurance', 'pfn-connector' )        => self::badge( $row ),
			__( 'SHA-256', 'pfn-connector' )          => isset( $row['sha256'] ) && is_string( $row['sha256'] ) ? $row['sha256'] : '',
			__( 'Key of the publisher', 'pfn-connector' ) => '' === $key ? __( 'will be trusted with the first installation', 'pfn-connector' ) : Settings::fingerprint( $key ),
		);
		if ( '' !== $this->why_not( $row ) ) {
			$lines[ __( 'Why it cannot be installed', 'pfn-connector' ) ] = $this->why_not( $row );
		}
		$html = '';
		foreach ( $lines as $name => $value ) {
			$html .= '<li><strong>' . esc_html( $name ) . ':</strong> ' . esc_html( $value ) . '</li>';
		}
		return '<ul>' . $html . '</ul>';
	}

	/**
	 * The buttons of a card: WordPress' own would look for a folder named like the slug.
	 *
	 * @param string[] $links  WordPress' own.
	 * @param array    $plugin The card.
	 * @return string[]
	 */
	public function links( $links, $plugin ) {
		$release = Release::from_slug( (string) $plugin['slug'] );
		if ( null === $release ) {
			return $links;
		}
		$details = end( $links );
		return array( $this->button( $release, $plugin ), $details );
	}

	/**
	 * Whether a plugin is installed, from this source.
	 *
	 * @param Release $release Which, of any version.
	 * @return bool
	 */
	public function is_installed( Release $release ) {
		$origin = $this->settings->origin_of( $release->plugin );
		return null !== $origin && array( $origin['source'], $origin['plugin'] ) === array( $release->source, $release->plugin )
			&& is_dir( WP_PLUGIN_DIR . '/' . $release->plugin );
	}

	/**
	 * The file of an installed plugin for which an update waits that may be installed.
	 *
	 * @param Release $release Which, of any version.
	 * @return string Empty: none.
	 */
	public function update_of( Release $release ) {
		$updates = get_site_transient( 'update_plugins' );
		foreach ( isset( $updates->response ) ? (array) $updates->response : array() as $file => $item ) {
			if ( isset( $item->slug, $item->package ) && $item->slug === $release->slug() && '' !== $item->package ) {
				return $file;
			}
		}
		return '';
	}

	/**
	 * What can be done with a plugin.
	 *
	 * @param Release $release Which.
	 * @param array   $plugin  The card.
	 * @return string HTML.
	 */
	private function button( Release $release, $plugin ) {
		$update = $this->update_of( $release );
		if ( $this->is_installed( $release ) ) {
			return '' !== $update && current_user_can( 'update_plugins' )
				? self::link( __( 'Update Now', 'pfn-connector' ), 'upgrade-plugin', $update )
				: self::disabled( __( 'Installed', 'pfn-connector' ) );
		}
		if ( is_dir( WP_PLUGIN_DIR . '/' . $release->plugin ) ) {
			return self::disabled( __( 'Another plugin has its folder', 'pfn-connector' ) );
		}
		if ( '' !== $plugin['pfn_why_not'] ) {
			return self::disabled( $plugin['pfn_why_not'] );
		}
		return current_user_can( 'install_plugins' )
			? self::link( __( 'Install Now', 'pfn-connector' ), 'install-plugin', $release->slug() )
			: self::disabled( __( 'Not installed', 'pfn-connector' ) );
	}

	/**
	 * A button that has WordPress do something, and show what is done.
	 *
	 * @param string $text   What it says.
	 * @param string $action What is done.
	 * @param string $plugin With which.
	 * @return string HTML.
	 */
	private static function link( $text, $action, $plugin ) {
		$url = self_admin_url( 'update.php?action=' . $action . '&plugin=' . rawurlencode( $plugin ) );
		return '<a class="button" href="' . esc_url( wp_nonce_url( $url, $action . '_' . $plugin ) ) . '">' . esc_html( $text ) . '</a>';
	}

	/**
	 * A button that does nothing.
	 *
	 * @param string $text What it says.
	 * @return string HTML.
	 */
	private static function disabled( $text ) {
		return '<button type="button" class="button button-disabled" disabled="disabled">' . esc_html( $text ) . '</button>';
	}
}
