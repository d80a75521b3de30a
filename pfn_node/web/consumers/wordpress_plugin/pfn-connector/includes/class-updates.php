<?php
/**
 * Offering updates.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

defined( 'ABSPATH' ) || exit;

/**
 * Tells WordPress which plugins have an update in the federation: those that the connector installed, and those whose
 * Update URI names a publisher whose key the site trusts already. Nobody else's update is offered for them.
 */
class Updates {

	/**
	 * What is trusted and remembered.
	 *
	 * @var Settings
	 */
	private $settings;

	/**
	 * Who is asked.
	 *
	 * @var Nodes
	 */
	private $nodes;

	/**
	 * Knows what may be installed.
	 *
	 * @var Cards
	 */
	private $cards;

	/**
	 * Answers of this request: WordPress stores its list twice in one check.
	 *
	 * @var array
	 */
	private $answers = array();

	/**
	 * Keeps what it needs.
	 *
	 * @param Settings $settings What is trusted and remembered.
	 * @param Nodes    $nodes    Who is asked.
	 */
	public function __construct( Settings $settings, Nodes $nodes ) {
		$this->settings = $settings;
		$this->nodes    = $nodes;
		$this->cards    = new Cards( $settings );
	}

	/**
	 * Hooks it in.
	 */
	public function hook() {
		add_filter( 'pre_set_site_transient_update_plugins', array( $this, 'offer' ), 100 );
	}

	/**
	 * Adds what the federation has to the list of updates that WordPress is about to store.
	 *
	 * @param mixed $list The list.
	 * @return mixed The list.
	 */
	public function offer( $list ) {
		if ( ! is_object( $list ) || ! function_exists( 'get_plugins' ) ) {
			return $list;
		}
		foreach ( get_plugins() as $file => $headers ) {
			$folder = dirname( $file );
			$origin = $this->settings->origin_of( $folder );
			if ( null !== $origin ) {
				unset( $list->response[ $file ], $list->no_update[ $file ] );
				$row = $this->row( $origin['source'], $origin['plugin'] );
			} else {
				$row = isset( $list->response[ $file ] ) ? null : $this->row_by_uri( $folder, (string) $headers['UpdateURI'] );
			}
			if ( null !== $row ) {
				$where = version_compare( $row['version'], $headers['Version'], '>' ) ? 'response' : 'no_update';

				$list->{$where}[ $file ] = $this->item( $file, $row, null !== $origin && $origin['signed'] );
			}
		}
		return $list;
	}

	/**
	 * What the nodes say of a plugin.
	 *
	 * @param string $source Who publishes it.
	 * @param string $plugin Its name there.
	 * @return array|null Null: nothing that can be read.
	 */
	private function row( $source, $plugin ) {
		$path = '/federation/plugins/' . rawurlencode( $source ) . '/' . rawurlencode( $plugin );
		if ( ! isset( $this->answers[ $path ] ) ) {
			$this->answers[ $path ] = $this->nodes->ask( $path );
		}
		$row  = $this->answers[ $path ];
		$ours = is_array( $row ) && Cards::is_row( $row ) && $row['source_id'] === $source && $row['plugin_id'] === $plugin;
		return $ours ? $row : null;
	}

	/**
	 * The plugin that an Update URI names: the publisher's URL and the plugin's name there.
	 *
	 * @param string $folder Where the plugin is.
	 * @param string $uri    Its Update URI.
	 * @return array|null Null: none of a publisher whose key is trusted.
	 */
	private function row_by_uri( $folder, $uri ) {
		if ( ! preg_match( '~^https?://([^/?#@\s]+)/~', $uri, $found ) || basename( $uri ) !== $folder ) {
			return null;
		}
		foreach ( array_keys( $this->settings->keys() ) as $source ) {
			$row = substr( $source, strpos( $source, '@' ) + 1 ) === $found[1] ? $this->row( $source, $folder ) : null;
			if ( null !== $row && isset( $row['publisher'] ) && $row['publisher'] . '/' . $folder === untrailingslashit( $uri ) ) {
				return $row;
			}
		}
		return null;
	}

	/**
	 * A row as WordPress keeps it. What may not be installed has no package: WordPress then says so.
	 *
	 * @param string $file        The plugin's file.
	 * @param array  $row         What a node says of it.
	 * @param bool   $signed_once Whether an earlier version was signed.
	 * @return object
	 */
	private function item( $file, $row, $signed_once ) {
		$release = new Release( $row['source_id'], $row['plugin_id'], $row['version'] );
		$allowed = '' === $this->cards->why_not( $row ) && ( Cards::is_signed( $row ) || ! $signed_once );
		return (object) array(
			'id'          => $release->slug(),
			'slug'        => $release->slug(),
			'plugin'      => $file,
			'new_version' => $row['version'],
			'url'         => '',
			'package'     => $allowed ? $release->package() : '',
			'icons'       => array( 'default' => Cards::icon() ),
			'banners'     => array(),
			'banners_rtl' => array(),
		);
	}
}
